"""The networks of a lab: those it has by default, and which others it can have."""

import itertools
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from ipam import cidrs
from ipam.address import Network
from lab.errors import OptionError

CLUSTER_CIDR: Final = IPv4Network("10.244.0.0/16")
SERVICE_CIDR: Final = IPv4Network("10.96.0.0/16")
CLUSTER_CIDR6: Final = IPv6Network("fd00:10:244::/56")
SERVICE_CIDR6: Final = IPv6Network("fd00:10:96::/112")
UNDERLAY: Final = IPv4Network("172.30.0.0/24")
UNDERLAY6: Final = IPv6Network("fd00:172:30::/64")
_POD_CIDR_PREFIX: Final = {4: 24, 6: 64}

Networks = tuple[Network, ...]


def validate(pods: Networks, services: Networks, node_count: int) -> None:
    """Raise OptionError naming the option of the network that a lab of so many nodes cannot have."""
    _validate_families(pods, services)
    for network in pods:
        prefix = _POD_CIDR_PREFIX[network.version]
        if network.prefixlen > prefix or 2 ** (prefix - network.prefixlen) < node_count:
            raise OptionError("--cluster-cidr", network, f"each of the {node_count} nodes needs a /{prefix} of it")
    underlay: Networks = (UNDERLAY, UNDERLAY6)
    for option, networks, others in (
        ("--cluster-cidr", pods, underlay),
        ("--service-cidr", services, underlay),
        ("--service-cidr", services, pods),
    ):
        for network, other in itertools.product(networks, others):
            if network.version == other.version and network.overlaps(other):
                raise OptionError(option, network, f"it overlaps {other}: choose networks that do not")


def _validate_families(pods: Networks, services: Networks) -> None:
    for option, given in (("--cluster-cidr", pods), ("--service-cidr", services)):
        if given[0].version != 4:
            raise OptionError(option, cidrs.spell(given), "the first family of a lab is IPv4: write IPV4,IPV6")
    if len(pods) != len(services):
        why = f"it must be of the same families as --cluster-cidr {cidrs.spell(pods)}"
        raise OptionError("--service-cidr", cidrs.spell(services), why)
