"""A Service's cluster IPs, one of each of its families, from the cluster's service CIDRs.

Where the search for a free one starts is derived from the Service's name. Services created at the same moment then
look at different places and seldom collide, and a Service that is deleted and created again finds its old address.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from api.model import Claim, Claims, Object
from api.resources import fields, service_cidr
from api.resources.service import identity
from api.resources.service.identity import KUBERNETES
from ipam import allocator
from ipam.address import Address, Network, address
from ipam.pool import AddressInUse, NotInPool, Pool, PoolError, PoolTooSmall
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
class _Range:
    """Addresses to give, and the claim of the ServiceCIDR they come from; the server's own ranges need none."""

    pool: Pool
    source: Claim | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """An address for each of a Service's families, and the claims they rely on."""

    addresses: list[str]
    relies_on: frozenset[Claim]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterIPs:
    """The ranges named at the server's start, at most one of each family, the main one first; ServiceCIDRs add to them."""

    service_cidrs: tuple[Network, ...]

    def __post_init__(self) -> None:
        for network in self.service_cidrs:
            _pool(network, _first(network))  # raises PoolTooSmall

    @property
    def families(self) -> tuple[str, ...]:
        """The families the cluster offers, its main one first."""
        return tuple(f"IPv{network.version}" for network in self.service_cidrs)

    def assign(self, service: Object, before: Object, claims: Claims) -> Assignment:
        """An address for each of the Service's families: those it has, those it asks for, or free ones."""
        wanted, held = service["spec"].get("clusterIPs", []), before.get("clusterIPs", [])
        addresses, sources = [], set()
        for index, family in enumerate(service["spec"]["ipFamilies"]):
            text = wanted[index] if index < len(wanted) else ""
            if not text or text not in held[index : index + 1]:
                text, source = self._assign(service, _VERSIONS[family], text, claims)
                sources.add(source)
            addresses.append(text)
        return Assignment(addresses=addresses, relies_on=frozenset(source for source in sources if source))

    def _assign(self, service: Object, version: int, wanted: str, claims: Claims) -> tuple[str, Claim | None]:
        if identity.of(service) == KUBERNETES and wanted in {"", str(self._first(version))}:
            return str(self._first(version)), None
        ranges, taken = list(self._ranges(version, claims)), _Texts(claims.taken(POOL))
        if wanted:
            return wanted, self._reserve(service, ip_address(wanted), ranges, taken)
        for each in ranges:
            if (found := _next(service, each.pool, taken)) is not None:
                return str(found), each.source
        raise _refused(service, fields.invalid("spec.clusterIP", "", _exhausted(ranges)))

    def _ranges(self, version: int, claims: Claims) -> Iterator[_Range]:
        own = [network for network in self.service_cidrs if network.version == version]
        yield from (_Range(pool=_pool(network, self._first(version)), source=None) for network in own)
        for claim, network in service_cidr.claims_of(claims.taken(service_cidr.POOL)):
            if network.version == version and network not in own:
                try:
                    yield _Range(pool=_pool(network, self._first(version)), source=claim)
                except PoolTooSmall:  # it holds the API server's address and no other
                    continue

    def _reserve(self, service: Object, wanted: Address, ranges: Sequence[_Range], taken: _Texts) -> Claim | None:
        found = next((each for each in ranges if wanted in each.pool), ranges[0])
        try:
            allocator.reserve(found.pool, taken, wanted)
        except (AddressInUse, NotInPool) as error:
            why = f"failed to allocate IP {wanted}: {self._why(wanted, error, ranges)}"
            invalid = fields.invalid("spec.clusterIPs", service["spec"]["clusterIPs"], why)
            raise _refused(service, invalid) from None
        return found.source

    def _why(self, wanted: Address, error: PoolError, ranges: Sequence[_Range]) -> str:
        if isinstance(error, AddressInUse):
            return "provided IP is already allocated"
        if wanted == self._first(wanted.version):
            return f"it is kept for the Service {'/'.join(KUBERNETES)}"
        return f"the provided IP is not in the valid range. The range of valid IPs is {_spelled(ranges)}"

    def _first(self, version: int) -> Address:
        """The first address of a family is the API server's."""
        return next(_first(network) for network in self.service_cidrs if network.version == version)


@functools.cache
def _first(network: Network) -> Address:
    return Pool.of(network).first


@functools.cache
def _pool(network: Network, kept: Address) -> Pool:
    return Pool.of(network, excluded=[kept])


def _next(service: Object, pool: Pool, taken: _Texts) -> Address | None:
    low, count = int(pool.first), int(pool.last) - int(pool.first) + 1
    # As in Kubernetes (KEP-3070), the range's start is given out last: people pick fixed addresses there.
    fixed = 0 if count < 16 else min(max(16, count // 16), 256)
    after = address(pool.network.version, low + fixed + identity.place(service) % (count - fixed))
    return allocator.next_free(pool, taken, after)


def _exhausted(ranges: Sequence[_Range]) -> str:
    spelled, size = _spelled(ranges), sum(each.pool.size for each in ranges)
    named = f"the service CIDR {spelled} is" if len(ranges) == 1 else f"the service CIDRs {spelled} are"
    return (
        f"{named} exhausted: all of its {size} addresses belong to other Services; delete one, add a range with a"
        " ServiceCIDR object, or start podwire-api with a larger --service-cidr"
    )


def _spelled(ranges: Sequence[_Range]) -> str:
    return ", ".join(str(each.pool.network) for each in ranges)


def _refused(service: Object, error: FieldError) -> Invalid:
    return Invalid.of(resources.SERVICES, service["metadata"].get("name", ""), [error])
