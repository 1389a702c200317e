"""Pools: which addresses of a network may be given away, and what can go wrong when one is asked for.

A pool never hands out its network's own address, its broadcast address or its gateway: those three belong to the
network itself (RFC 919 §7, RFC 3021 for the /31 that has neither). IPv6 has no broadcast address; its lowest one is
the routers' anycast address (RFC 4291 §2.6.1). Nothing here counts addresses one by one: a /64 costs what a /24 does.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ipam.address import Address, Network, Span, address, merged, span


class PoolError(Exception):
    """An address could not be given."""


class PoolExhausted(PoolError):
    """Every address (or every subnet) of these networks is taken."""

    def __init__(self, *networks: Network, used: int, size: int, unit: str = "addresses") -> None:
        super().__init__(networks, used, size, unit)
        self.networks, self.used, self.size, self.unit = networks, used, size, unit

    def __str__(self) -> str:
        names, verb = ", ".join(map(str, self.networks)), "is" if len(self.networks) == 1 else "are"
        return f"{names} {verb} exhausted: {self.used} of {self.size} {self.unit} are in use; free some or configure a larger range"


class NotInPool(PoolError):
    """The wanted address is not one these pools may give."""

    def __init__(self, address: Address, *pools: "Pool") -> None:
        super().__init__(address, pools)
        self.address, self.pools = address, pools

    def __str__(self) -> str:
        offers = "; ".join(
            f"{pool.network} gives {pool.first} to {pool.last} except {pool.exceptions}" for pool in self.pools
        )
        return f"{self.address} cannot be given: {offers}"


class TooManyWanted(PoolError):
    """Every list of ranges that holds the wanted address already gives another wanted one."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.address = address

    def __str__(self) -> str:
        return f"{self.address} cannot be given as well: one address is given from each list of ranges; ask for fewer"


class AddressInUse(PoolError):
    """The wanted address already belongs to somebody."""

    def __init__(self, address: Address, owner: str = "") -> None:
        super().__init__(address, owner)
        self.address, self.owner = address, owner

    def __str__(self) -> str:
        return f"{self.address} is already in use" + (f" by {self.owner}" if self.owner else "")


class PoolTooSmall(PoolError):
    """The network, or the part of it that was asked for, holds no address to give."""

    def __init__(self, network: Network, reason: str) -> None:
        super().__init__(network, reason)
        self.network, self.reason = network, reason

    def __str__(self) -> str:
        return f"{self.network} has no address to give: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The addresses first..last of a network, without the excluded ones. `Pool.of` fills in the customary bounds."""

    network: Network
    first: Address
    last: Address
    gateway: Address | None = None
    excluded: tuple[Span, ...] = ()  # inside first..last, sorted, apart from each other

    @classmethod
    def of(
        cls,
        network: Network,
        *,
        first: Address | None = None,
        last: Address | None = None,
        gateway: Address | None = None,
        excluded: Iterable[Address | Network] = (),
    ) -> "Pool":
        """A pool of every usable address of `network`, or of the part first..last."""
        lowest, highest = usable(network)
        first, last = first or lowest, last or highest
        for bound in (first, last):
            if bound.version != network.version or not int(lowest) <= int(bound) <= int(highest):
                raise PoolTooSmall(network, f"{bound} is outside {lowest} to {highest}")
        if int(first) > int(last):
            raise PoolTooSmall(network, f"its first address {first} lies behind its last {last}")
        withheld = [*excluded, *([gateway] if gateway else [])]
        spans = _cut([span(part) for part in withheld if part.version == network.version], (int(first), int(last)))
        pool = cls(network=network, first=first, last=last, gateway=gateway, excluded=spans)
        if not pool.size:
            raise PoolTooSmall(network, f"{first} to {last} is all excluded")
        return pool

    def __contains__(self, address: object) -> bool:
        return isinstance(address, Address) and self.covers(address) and self.end_of_exclusion(int(address)) is None

    def covers(self, address: Address) -> bool:
        """Whether the address lies between first and last, excluded or not."""
        return address.version == self.network.version and int(self.first) <= int(address) <= int(self.last)

    def address(self, number: int) -> Address:
        return address(self.network.version, number)

    def end_of_exclusion(self, number: int) -> int | None:
        """The last number of the excluded stretch that `number` lies in; None outside of one."""
        index = bisect_right(self.excluded, number, key=lambda excluded: excluded[0]) - 1
        return self.excluded[index][1] if index >= 0 and number <= self.excluded[index][1] else None

    @property
    def size(self) -> int:
        """How many addresses the pool can give in all."""
        return int(self.last) - int(self.first) + 1 - sum(last - first + 1 for first, last in self.excluded)

    @property
    def exceptions(self) -> str:
        return ", ".join(self._spelled(first, last) for first, last in self.excluded) or "none"

    def _spelled(self, first: int, last: int) -> str:
        return str(self.address(first)) if first == last else f"{self.address(first)} to {self.address(last)}"


def _cut(spans: Iterable[Span], bounds: Span) -> tuple[Span, ...]:
    cut = [(max(first, bounds[0]), min(last, bounds[1])) for first, last in spans]
    return merged([(first, last) for first, last in cut if first <= last])


def usable(network: Network) -> tuple[Address, Address]:
    """The lowest and highest host address of a network."""
    if network.prefixlen >= network.max_prefixlen - 1:  # RFC 3021, RFC 6164: two hosts; one address is one host
        return network.network_address, network.broadcast_address
    if network.version == 6:
        return network.network_address + 1, network.broadcast_address
    return network.network_address + 1, network.broadcast_address - 1


def first_overlap(pools: Sequence[Pool]) -> tuple[int, int] | None:
    """The indexes of two pools that could give the same address, the later one first; None when there are none."""
    for index, pool in enumerate(pools):
        for earlier, other in enumerate(pools[:index]):
            if pool.network.version == other.network.version and _meet(pool, other):
                return index, earlier
    return None


def _meet(one: Pool, other: Pool) -> bool:
    return int(one.first) <= int(other.last) and int(other.first) <= int(one.last)
