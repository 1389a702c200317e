"""Cutting a cluster's CIDR into the nodes' podCIDRs: policy without storage."""

from collections.abc import Iterable
from ipaddress import IPv4Network

from ipam.pool import PoolExhausted, PoolTooSmall


def assign_subnet(cluster: IPv4Network, prefix: int, taken: Iterable[IPv4Network]) -> IPv4Network:
    """The lowest subnet of `cluster` with this prefix length that overlaps nothing taken.

    Taken networks may have any size and may lie outside the cluster's CIDR: a node can bring a podCIDR of its own.
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
    return IPv4Network((candidate, prefix))
