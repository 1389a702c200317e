"""The kinds the API serves, each with its own rules: defaults, validation, what it allocates, what kubectl prints."""

from api.model import Strategy
from api.resources.endpointslice import EndpointSliceStrategy
from api.resources.event import EventStrategy
from api.resources.lease import LeaseStrategy
from api.resources.namespace import NamespaceStrategy
from api.resources.node import NodeStrategy
from api.resources.pod import PodStrategy
from api.resources.service import ServiceStrategy
from api.resources.service_cidr import ServiceCIDRStrategy
from ipam.address import Network


def strategies(cluster_cidrs: tuple[Network, ...], service_cidrs: tuple[Network, ...]) -> tuple[Strategy, ...]:
    """Every kind's rules, in a cluster with these CIDRs, at most one of each family, the main one first.

    Raises ipam.pool.PoolTooSmall for a service CIDR without room.
    """
    return (
        NamespaceStrategy(),
        NodeStrategy(cluster_cidrs=cluster_cidrs),
        PodStrategy(),
        ServiceStrategy(service_cidrs=service_cidrs),
        ServiceCIDRStrategy(service_cidrs=service_cidrs),
        EndpointSliceStrategy(),
        LeaseStrategy(),
        EventStrategy(),
    )
