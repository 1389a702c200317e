"""A Service's cluster IPs, one of each of its families, from the cluster's service CIDRs.

Where the search for a free one starts is derived from the Service's name. Services created at the same moment then
look at different places and seldom collide, and a Service that is deleted and created again finds its old address.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from api.model import Claims, Object
from api.resources import fields
from api.resources.service import identity
from api.resources.service.identity import KUBERNETES
from ipam import allocator
from ipam.address import Address, Network, address
from ipam.pool import AddressInUse, NotInPool, Pool, PoolError
from kube import resources
from kube.errors import FieldError, Invalid

POOL = "clusterips"
_VERSIONS = {"IPv4": 4, "IPv6": 6}


class _Texts:
    """Claimed addresses, kept as the text they are claimed as: a lookup costs no parsing of all the others."""

    def __init__(self, values: frozenset[str]) -> None:
        self._values = values

    def __contains__(self, address: object) -> bool:
        return str(address) in self._values


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterIPs:
    """The ranges named at the server's start, at most one of each family, the main one first."""

    service_cidrs: tuple[Network, ...]

    def __post_init__(self) -> None:
        for network in self.service_cidrs:
            self._pool(network)  # raises PoolTooSmall

    @property
    def families(self) -> tuple[str, ...]:
        """The families the cluster offers, its main one first."""
        return tuple(f"IPv{network.version}" for network in self.service_cidrs)

    def assign(self, service: Object, before: Object, claims: Claims) -> list[str]:
        """An address for each of the Service's families: those it has, those it asks for, or free ones."""
        wanted, held = service["spec"].get("clusterIPs", []), before.get("clusterIPs", [])
        addresses = []
        for index, family in enumerate(service["spec"]["ipFamilies"]):
            text = wanted[index] if index < len(wanted) else ""
            if not text or text not in held[index : index + 1]:
                text = self._assign(service, _VERSIONS[family], text, claims)
            addresses.append(text)
        return addresses

    def _assign(self, service: Object, version: int, wanted: str, claims: Claims) -> str:
        pools = [self._pool(network) for network in self.service_cidrs if network.version == version]
        taken = _Texts(claims.taken(POOL))
        if wanted:
            self._reserve(service, ip_address(wanted), pools, taken)
            return wanted
        if identity.of(service) == KUBERNETES:
            return str(self._first(version))
        return str(_next(service, pools, taken))

    def _reserve(self, service: Object, wanted: Address, pools: Sequence[Pool], taken: _Texts) -> None:
        if wanted == self._first(wanted.version) and identity.of(service) == KUBERNETES:
            return
        pool = next((pool for pool in pools if wanted in pool), pools[0])
        try:
            allocator.reserve(pool, taken, wanted)
        except (AddressInUse, NotInPool) as error:
            why = f"failed to allocate IP {wanted}: {self._why(wanted, error, pools)}"
            invalid = fields.invalid("spec.clusterIPs", service["spec"]["clusterIPs"], why)
            raise _refused(service, invalid) from None

    def _why(self, wanted: Address, error: PoolError, pools: Sequence[Pool]) -> str:
        if isinstance(error, AddressInUse):
            return "provided IP is already allocated"
        if wanted == self._first(wanted.version):
            return f"it is kept for the Service {'/'.join(KUBERNETES)}"
        return f"the provided IP is not in the valid range. The range of valid IPs is {_spelled(pools)}"

    def _pool(self, network: Network) -> Pool:
        return _pool(network, self._first(network.version))

    def _first(self, version: int) -> Address:
        """The first address of a family is the API server's."""
        return next(_first(network) for network in self.service_cidrs if network.version == version)


@functools.cache
def _first(network: Network) -> Address:
    return Pool.of(network).first


@functools.cache
def _pool(network: Network, kept: Address) -> Pool:
    return Pool.of(network, excluded=[kept])


def _next(service: Object, pools: Sequence[Pool], taken: _Texts) -> Address:
    for pool in pools:
        low, count = int(pool.first), int(pool.last) - int(pool.first) + 1
        # As in Kubernetes (KEP-3070), the range's start is given out last: people pick fixed addresses there.
        fixed = 0 if count < 16 else min(max(16, count // 16), 256)
        after = address(pool.network.version, low + fixed + identity.place(service) % (count - fixed))
        found = allocator.next_free(pool, taken, after)
        if found is not None:
            return found
    raise _refused(service, fields.invalid("spec.clusterIP", "", _exhausted(pools)))


def _exhausted(pools: Sequence[Pool]) -> str:
    ranges, size = _spelled(pools), sum(pool.size for pool in pools)
    named = f"the service CIDR {ranges} is" if len(pools) == 1 else f"the service CIDRs {ranges} are"
    return (
        f"{named} exhausted: all of its {size} addresses belong to other Services; delete one, or start podwire-api with"
        " a larger --service-cidr"
    )


def _spelled(pools: Sequence[Pool]) -> str:
    return ", ".join(str(pool.network) for pool in pools)


def _refused(service: Object, error: FieldError) -> Invalid:
    return Invalid.of(resources.SERVICES, service["metadata"].get("name", ""), [error])
