"""The cluster as this node must believe it: every Node's address and podCIDRs, checked before anything is routed by them.

Pure. A Node object can say anything; a wrong one must cost its own pods and nobody else's. What cannot be used is left
out and named as a Problem.
"""

import ipaddress
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dataplane.netlink.objects import Address, Network
from kube.objects import Node

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something an operator should know: which node it is about, what is wrong, and what to do."""

    node: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One node of the cluster. Addresses are its InternalIPs."""

    name: str
    addresses: tuple[Address, ...] = ()
    pod_cidrs: tuple[Network, ...] = ()

    def has_pods_of(self, version: int) -> bool:
        return any(cidr.version == version for cidr in self.pod_cidrs)

    def address(self, version: int) -> Address | None:
        return next((address for address in self.addresses if address.version == version), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Members by name; podCIDRs are disjoint and hold no node's address."""

    members: tuple[Member, ...] = ()
    problems: frozenset[Problem] = frozenset()

    def member(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)


def read_cluster(nodes: Iterable[Node]) -> Cluster:
    """Parse and check all Nodes; the result does not depend on their order."""
    problems: set[Problem] = set()
    parsed = [_parse(node, problems) for node in sorted(nodes, key=lambda node: node.metadata.name)]
    _find_shared_addresses(parsed, problems)
    members = tuple(_drop_conflicting(parsed, problems))
    return Cluster(members=members, problems=frozenset(problems))


def without_ipv6(cluster: Cluster, own_name: str) -> Cluster:
    """The cluster as a node sees it that has no IPv6: there are no pods of that family for it."""
    members = tuple(
        replace(member, pod_cidrs=tuple(cidr for cidr in member.pod_cidrs if cidr.version == 4))
        for member in cluster.members
    )
    if members == cluster.members:
        return cluster
    text = (
        "IPv6 is switched off on this node: its pods get no IPv6 address and reach none;"
        " set net.ipv6.conf.all.disable_ipv6 and net.ipv6.conf.default.disable_ipv6 to 0"
    )
    return Cluster(members=members, problems=cluster.problems | {Problem(node=own_name, text=text)})


def _parse(node: Node, problems: set[Problem]) -> Member:
    name = node.metadata.name
    internal = [entry.address for entry in node.status.addresses if entry.type == "InternalIP"]
    cidrs = node.spec.pod_cidrs or ((node.spec.pod_cidr,) if node.spec.pod_cidr else ())
    return Member(
        name=name,
        addresses=tuple(_parsed(name, "InternalIP", internal, ipaddress.ip_address, problems)),
        pod_cidrs=tuple(_parsed(name, "podCIDR", cidrs, ipaddress.ip_network, problems)),
    )


def _parsed(
    name: str, field: str, texts: Iterable[str], parse: Callable[[str], T], problems: set[Problem]
) -> Iterator[T]:
    for text in texts:
        try:
            yield parse(text)
        except ValueError as error:
            problems.add(Problem(node=name, text=f"its {field} {text!r} is ignored: {error}"))


def _find_shared_addresses(members: Iterable[Member], problems: set[Problem]) -> None:
    holders: dict[Address, str] = {}
    for member in members:
        for address in member.addresses:
            holder = holders.setdefault(address, member.name)
            if holder != member.name:
                problems.add(Problem(node=member.name, text=_shared(address, holder)))


def _shared(address: Address, holder: str) -> str:
    return (
        f"its address {address} is also that of node {holder}: traffic to one of them reaches the other;"
        " start podwire-node there with --node-ip and the address other nodes reach it by"
    )


def _drop_conflicting(members: Sequence[Member], problems: set[Problem]) -> Iterator[Member]:
    """Keep each podCIDR that overlaps no earlier one and swallows no node's address; a route to it would cut nodes off."""
    addresses = _Ranges({(address, address): member.name for member in members for address in member.addresses})
    taken = _Ranges({})
    for member in members:
        kept = []
        for cidr in member.pod_cidrs:
            conflict = _conflict(cidr, addresses, taken)
            if conflict:
                problems.add(Problem(node=member.name, text=f"its podCIDR {cidr} is ignored: {conflict}"))
                continue
            taken.add(cidr, member.name)
            kept.append(cidr)
        yield replace(member, pod_cidrs=tuple(kept))


def _conflict(cidr: Network, addresses: "_Ranges", taken: "_Ranges") -> str:
    if (holder := taken.touching(cidr)) is not None:
        return f"it overlaps that of node {holder}"
    if (holder := addresses.touching(cidr)) is not None:
        return f"the address of node {holder} lies inside"
    return ""


class _Ranges:
    """Disjoint ranges of addresses with their holders; a look-up costs the logarithm of their number."""

    def __init__(self, holders: Mapping[tuple[Address, Address], str]) -> None:
        self._ranges = sorted((first.version, int(first), int(last), name) for (first, last), name in holders.items())

    def add(self, cidr: Network, holder: str) -> None:
        entry = (cidr.version, int(cidr.network_address), int(cidr.broadcast_address), holder)
        self._ranges.insert(bisect_left(self._ranges, entry), entry)

    def touching(self, cidr: Network) -> str | None:
        """The holder of a range that shares an address with `cidr`."""
        first, last = int(cidr.network_address), int(cidr.broadcast_address)
        position = bisect_left(self._ranges, (cidr.version, first))
        for version, low, high, holder in self._ranges[max(position - 1, 0) : position + 1]:
            if version == cidr.version and low <= last and first <= high:
                return holder
        return None
