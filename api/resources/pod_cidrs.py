"""A node's podCIDRs: one of each family, cut from the cluster CIDRs, claimed when the Node is created, freed when it goes.

A Node from before the cluster had its second family gets the missing podCIDR with the next write of the Node.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from api.model import Claim, Claims, Object
from api.resources import fields
from ipam import cidrs
from ipam.address import Network
from ipam.pool import PoolError
from kube import resources
from kube.errors import FieldError, Invalid

POOL = "podcidrs"

_PREFIX = {4: 24, 6: 64}
# What a user may ask for: 256 nodes' worth of addresses, down to one that still holds a gateway and a pod.
_LARGEST, _SMALLEST = {4: 16, 6: 56}, {4: 30, 6: 126}
_ONCE = 'node updates may not change podCIDR except from "" to valid'


@dataclass(frozen=True, slots=True, kw_only=True)
class PodCIDRs:
    """The cluster's own ranges, at most one of each family, the main one first."""

    cluster_cidrs: tuple[Network, ...]

    def errors(self, spec: Object, old: Object | None) -> list[FieldError]:
        """What is wrong with the podCIDRs a new Node asks for, or with changing those of `old`."""
        held, wanted = held_by(old), spec.get("podCIDRs", [])
        if held:  # an update that leaves them out keeps them
            is_same = wanted == held[: len(wanted)] and spec.get("podCIDR", held[0]) == held[0]
            return [] if is_same else [fields.forbidden("spec.podCIDR", _ONCE)]
        if not wanted:
            return []
        if spec.get("podCIDR") != wanted[0]:
            return [fields.invalid("spec.podCIDRs[0]", wanted[0], "must match `podCIDR`")]
        found = [error for index, text in enumerate(wanted) for error in self._cidr(_path(index), text)]
        return found or _one_of_each_family(wanted)

    def _cidr(self, path: str, text: str) -> list[FieldError]:
        network, found = fields.cidr(path, text)
        if network is None:
            return found
        largest, smallest = _LARGEST[network.version], _SMALLEST[network.version]
        if not any(_lies_in(network, cluster) for cluster in self.cluster_cidrs):
            return [fields.invalid(path, text, f"must lie inside the cluster CIDR {cidrs.spell(self.cluster_cidrs)}")]
        if not largest <= network.prefixlen <= smallest:
            return [fields.invalid(path, text, f"must be between a /{largest} and a /{smallest}")]
        return []

    def assign(self, node: Object, old: Object | None, claims: Claims) -> list[str]:
        """The podCIDRs the Node holds from now on: those it has or asks for, and a free one of each other family."""
        held = held_by(old)
        found = held or self._reserve(node, claims)
        versions = {ip_network(text).version for text in found}
        missing = [cluster for cluster in self.cluster_cidrs if cluster.version not in versions]
        for cluster in missing:
            try:
                found = [*found, str(_next(cluster, claims))]
            except PoolError:
                if held:  # what a node has is enough to go on with
                    break
                raise _refused(node, "", _exhausted(cluster, claims)) from None
        return found if held else sorted(found, key=self._rank)

    def claims(self, pod_cidrs: Iterable[str]) -> frozenset[Claim]:
        return frozenset(Claim(pool=POOL, value=str(block)) for text in pod_cidrs for block in self._blocks(text))

    def _reserve(self, node: Object, claims: Claims) -> list[str]:
        wanted, taken = list(node["spec"].get("podCIDRs", [])), claims.taken(POOL)
        for text in wanted:
            overlapping = next((str(block) for block in self._blocks(text) if str(block) in taken), None)
            if overlapping is not None:
                raise _refused(node, text, f"overlaps {overlapping}, which another node holds")
        return wanted

    def _blocks(self, text: str) -> Iterator[Network]:
        """What a podCIDR claims. Claims are compared as text, so all are of one size and overlap shows as equality."""
        network = ip_network(text)
        prefix = next((_prefix(each) for each in self.cluster_cidrs if each.version == network.version), 0)
        prefix = prefix or _PREFIX[network.version]
        if network.prefixlen < prefix:
            yield from network.subnets(new_prefix=prefix)
        else:
            yield network.supernet(new_prefix=prefix)

    def _rank(self, text: str) -> int:
        """Where a family stands: the cluster's main one first, whatever order a user wrote them in."""
        return [cluster.version for cluster in self.cluster_cidrs].index(ip_network(text).version)


def held_by(node: Object | None) -> list[str]:
    spec = (node or {}).get("spec", {})
    return list(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else []))


def mirror(spec: Object) -> None:
    """Fill podCIDR and podCIDRs[0], two names of one thing, from whichever was given; in place."""
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs") and not spec.get("podCIDR"):
        spec["podCIDR"] = spec["podCIDRs"][0]


def _path(index: int) -> str:
    return "spec.podCIDR" if index == 0 else f"spec.podCIDRs[{index}]"


def _one_of_each_family(texts: Sequence[str]) -> list[FieldError]:
    if len({ip_network(text).version for text in texts}) == len(texts):
        return []
    return [fields.invalid("spec.podCIDRs", list(texts), "may specify no more than one CIDR for each IP family")]


def _lies_in(network: Network, cluster: Network) -> bool:
    return network.version == cluster.version and network.subnet_of(cluster)  # type: ignore[arg-type]


def _prefix(cluster: Network) -> int:
    return max(_PREFIX[cluster.version], cluster.prefixlen)


def _next(cluster: Network, claims: Claims) -> Network:
    return cidrs.assign_subnet(cluster, _prefix(cluster), _taken(cluster.version, claims))


def _taken(version: int, claims: Claims) -> list[Network]:
    return [network for text in claims.taken(POOL) if (network := _network(text)).version == version]


@functools.lru_cache(maxsize=8192)
def _network(text: str) -> Network:
    return ip_network(text)


def _exhausted(cluster: Network, claims: Claims) -> str:
    count = len(_taken(cluster.version, claims))
    return (
        f"the cluster CIDR {cluster} is exhausted: all of its {count} /{_prefix(cluster)} blocks are podCIDRs of"
        " other nodes; delete a Node that is gone, or start podwire-api with a larger --cluster-cidr"
    )


def _refused(node: Object, value: str, why: str) -> Invalid:
    return Invalid.of(resources.NODES, node["metadata"].get("name", ""), [fields.invalid("spec.podCIDR", value, why)])
