"""Which routes this node needs to reach the other nodes' pods, and what to change to have exactly those.

Pure. Each podCIDR of another node is routed through that node's address, straight over the link they share (host-gw): no
tunnel, no loss of MTU. Our routes carry our own protocol number, so a restarted agent knows them and touches no other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dataplane.netlink.objects import Address, Network, Protocol, Route
from node.members import Cluster, Member, Problem

_LOOPBACK = "lo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    routes: frozenset[Route] = frozenset()
    problems: frozenset[Problem] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What turns the actual routes into the desired ones."""

    add: tuple[Route, ...] = ()
    replace: tuple[Route, ...] = ()
    delete: tuple[Route, ...] = ()

    @property
    def steps(self) -> dict[str, tuple[Route, ...]]:
        return {"added": self.add, "replaced": self.replace, "deleted": self.delete}

    @property
    def size(self) -> int:
        return len(self.add) + len(self.replace) + len(self.delete)


def gateways(cluster: Cluster, own_name: str) -> frozenset[Address]:
    """The addresses this node must reach directly."""
    pairs = ((member, cidr) for member in cluster.members if member.name != own_name for cidr in member.pod_cidrs)
    found = (member.address(cidr.version) for member, cidr in pairs)
    return frozenset(address for address in found if address is not None)


def render(cluster: Cluster, own_name: str, ways: Mapping[Address, Route]) -> Desired:
    """The desired routes, given the way the kernel takes to each gateway that it can reach at all."""
    routes: set[Route] = set()
    problems: set[Problem] = set()
    for member in cluster.members:
        for cidr in member.pod_cidrs if member.name != own_name else ():
            rendered = _render(member, cidr, ways)
            if isinstance(rendered, Route):
                routes.add(rendered)
            else:
                problems.add(rendered)
    return Desired(routes=frozenset(routes), problems=frozenset(problems))


def _render(member: Member, cidr: Network, ways: Mapping[Address, Route]) -> Route | Problem:
    gateway = member.address(cidr.version)
    if gateway is None:
        return Problem(node=member.name, text=f"no route to its podCIDR {cidr}: it has no IPv{cidr.version} InternalIP")
    way = ways.get(gateway)
    obstacle = _obstacle(gateway, way)
    if obstacle or way is None:
        return Problem(node=member.name, text=f"no route to its podCIDR {cidr}: {obstacle}")
    return Route(destination=cidr, gateway=gateway, device=way.device, protocol=Protocol.PODWIRE)


def _obstacle(gateway: Address, way: Route | None) -> str:
    if way is None:
        return f"this node has no route to its address {gateway}"
    if way.device == _LOOPBACK:
        return f"its address {gateway} is this node's own; one of the two needs another --node-ip"
    if way.gateway is not None:
        return (
            f"its address {gateway} is not on a link of this node but behind {way.gateway} on {way.device};"
            " put the nodes on one link, or give both a --node-ip on a link they share"
        )
    return ""


def plan(actual: Iterable[Route], desired: Iterable[Route]) -> Plan:
    """Compare by value; what only changed its gateway or device is replaced, so that its packets see no gap."""
    have, want = frozenset(actual), frozenset(desired)
    stale, missing = have - want, want - have
    changed = {route.destination for route in stale} & {route.destination for route in missing}
    return Plan(
        add=_sorted(route for route in missing if route.destination not in changed),
        replace=_sorted(route for route in missing if route.destination in changed),
        delete=_sorted(route for route in stale if route.destination not in changed),
    )


def _sorted(routes: Iterable[Route]) -> tuple[Route, ...]:
    return tuple(sorted(routes, key=str))
