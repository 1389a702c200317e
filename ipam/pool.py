"""Pools: which addresses of a network may be given away, and what can go wrong when one is asked for.

A pool never hands out its network's own address, its broadcast address or its gateway: those three belong to the
network itself (RFC 919 §7, RFC 3021 for the /31 that has neither).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network


class PoolError(Exception):
    """An address could not be given."""


class PoolExhausted(PoolError):
    """Every address (or every subnet) of these networks is taken."""

    def __init__(self, *networks: IPv4Network, used: int, size: int, unit: str = "addresses") -> None:
        super().__init__(networks, used, size, unit)
        self.networks, self.used, self.size, self.unit = networks, used, size, unit

    def __str__(self) -> str:
        names, verb = ", ".join(map(str, self.networks)), "is" if len(self.networks) == 1 else "are"
        return f"{names} {verb} exhausted: {self.used} of {self.size} {self.unit} are in use; free some or configure a larger range"


class NotInPool(PoolError):
    """The wanted address is not one this pool may give."""

    def __init__(self, address: IPv4Address, pool: "Pool") -> None:
        super().__init__(address, pool)
        self.address, self.pool = address, pool

    def __str__(self) -> str:
        return f"{self.address} cannot be given: {self.pool.network} gives {self.pool.first} to {self.pool.last} except {self.pool.exceptions}"


class AddressInUse(PoolError):
    """The wanted address already belongs to somebody."""

    def __init__(self, address: IPv4Address, owner: str = "") -> None:
        super().__init__(address, owner)
        self.address, self.owner = address, owner

    def __str__(self) -> str:
        return f"{self.address} is already in use" + (f" by {self.owner}" if self.owner else "")


class PoolTooSmall(PoolError):
    """The network, or the part of it that was asked for, holds no address to give."""

    def __init__(self, network: IPv4Network, reason: str) -> None:
        super().__init__(network, reason)
        self.network, self.reason = network, reason

    def __str__(self) -> str:
        return f"{self.network} has no address to give: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The addresses first..last of a network, without the excluded ones. `Pool.of` fills in the customary bounds."""

    network: IPv4Network
    first: IPv4Address
    last: IPv4Address
    gateway: IPv4Address | None = None
    excluded: frozenset[IPv4Address] = field(default_factory=frozenset)

    @classmethod
    def of(
        cls,
        network: IPv4Network,
        *,
        first: IPv4Address | None = None,
        last: IPv4Address | None = None,
        gateway: IPv4Address | None = None,
        excluded: Iterable[IPv4Address] = (),
    ) -> "Pool":
        """A pool of every usable address of `network`, or of the part first..last."""
        lowest, highest = usable(network)
        first, last = first or lowest, last or highest
        for bound in (first, last):
            if not lowest <= bound <= highest:
                raise PoolTooSmall(network, f"{bound} is outside {lowest} to {highest}")
        if first > last:
            raise PoolTooSmall(network, f"its first address {first} lies behind its last {last}")
        withheld = frozenset(excluded) | ({gateway} if gateway else set())
        pool = cls(network=network, first=first, last=last, gateway=gateway, excluded=withheld)
        if not pool.size:
            raise PoolTooSmall(network, f"{first} to {last} is all excluded")
        return pool

    def __contains__(self, address: object) -> bool:
        return isinstance(address, IPv4Address) and self.first <= address <= self.last and address not in self.excluded

    @property
    def size(self) -> int:
        """How many addresses the pool can give in all."""
        withheld = sum(self.first <= address <= self.last for address in self.excluded)
        return int(self.last) - int(self.first) + 1 - withheld

    @property
    def exceptions(self) -> str:
        return ", ".join(str(address) for address in sorted(self.excluded)) or "none"


def usable(network: IPv4Network) -> tuple[IPv4Address, IPv4Address]:
    """The lowest and highest host address of a network."""
    if network.prefixlen >= 31:  # RFC 3021: two hosts, no broadcast; a /32 is one host
        return network.network_address, network.broadcast_address
    return network.network_address + 1, network.broadcast_address - 1
