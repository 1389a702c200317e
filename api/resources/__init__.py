"""The kinds the API serves, each with its own rules: defaults, validation, what it allocates, what kubectl prints."""

from ipaddress import IPv4Network

from api.model import Strategy
from api.resources.endpointslice import EndpointSliceStrategy
from api.resources.event import EventStrategy
from api.resources.namespace import NamespaceStrategy
from api.resources.node import NodeStrategy
from api.resources.pod import PodStrategy
from api.resources.service import ServiceStrategy


def strategies(cluster_cidr: IPv4Network, service_cidr: IPv4Network) -> tuple[Strategy, ...]:
    """Every kind's rules, in a cluster with these CIDRs; raises ipam.pool.PoolTooSmall for a service CIDR without room."""
    return (
        NamespaceStrategy(),
        NodeStrategy(cluster_cidr=cluster_cidr),
        PodStrategy(),
        ServiceStrategy(service_cidr=service_cidr),
        EndpointSliceStrategy(),
        EventStrategy(),
    )
