"""Cutting a cluster's CIDR into the nodes' podCIDRs: policy without storage. And how operators write such CIDRs."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from ipam.address import Network
from ipam.pool import PoolExhausted, PoolTooSmall


def parse(text: str) -> tuple[Network, ...]:
    """One network, or one of each family with a comma between them, the main one first; ValueError says what is wrong."""
    networks = tuple(ip_network(part.strip()) for part in text.split(","))
    if len(networks) > len({network.version for network in networks}):
        raise ValueError(f"one network of each family is enough: {text} has more")
    return networks


def spell(networks: Iterable[Network]) -> str:
    """The text that `parse` reads."""
    return ",".join(map(str, networks))


def assign_subnet(cluster: Network, prefix: int, taken: Iterable[Network]) -> Network:
    """The lowest subnet of `cluster` with this prefix length that overlaps nothing taken.

    Taken networks are of the cluster's family. They may have any size and may lie outside the cluster's CIDR: a node
    can bring a podCIDR of its own.
    """
    if not cluster.prefixlen <= prefix <= cluster.max_prefixlen:
        raise PoolTooSmall(cluster, f"a /{prefix} does not fit into it")
    step = 1 << (cluster.max_prefixlen - prefix)
    candidate, end = int(cluster.network_address), int(cluster.broadcast_address)
    for start, stop in sorted((int(net.network_address), int(net.broadcast_address)) for net in taken):
        if start > candidate + step - 1:
            break
        if stop >= candidate:
            candidate = stop // step * step + step
    if candidate > end:
        count = 1 << (prefix - cluster.prefixlen)
        raise PoolExhausted(cluster, used=count, size=count, unit=f"/{prefix} subnets")
    return IPv4Network((candidate, prefix)) if cluster.version == 4 else IPv6Network((candidate, prefix))
