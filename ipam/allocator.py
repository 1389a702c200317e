"""Which address comes next: policy without storage.

Round robin: the search starts behind the address given last and wraps, so an address that was just freed is the last
to come back. That gives neighbours' ARP caches and conntrack entries of its former owner the longest time to go.
"""

from collections.abc import Container
from ipaddress import IPv4Address

from ipam.pool import AddressInUse, NotInPool, Pool, PoolExhausted


def next_free(pool: Pool, taken: Container[IPv4Address], after: IPv4Address | None = None) -> IPv4Address | None:
    """The first free address behind `after`, wrapping at the pool's end; None when there is none."""
    first, count = int(pool.first), int(pool.last) - int(pool.first) + 1
    start = int(after) + 1 - first if after is not None and pool.first <= after <= pool.last else 0
    for step in range(count):
        candidate = IPv4Address(first + (start + step) % count)
        if candidate not in pool.excluded and candidate not in taken:
            return candidate
    return None


def assign(pool: Pool, taken: Container[IPv4Address], after: IPv4Address | None = None) -> IPv4Address:
    """The next free address of the pool; PoolExhausted when every one is taken."""
    address = next_free(pool, taken, after)
    if address is None:
        raise PoolExhausted(pool.network, used=pool.size, size=pool.size)
    return address


def reserve(pool: Pool, taken: Container[IPv4Address], address: IPv4Address) -> IPv4Address:
    """The address somebody asked for by name, when the pool may give it and nobody has it."""
    if address not in pool:
        raise NotInPool(address, pool)
    if address in taken:
        raise AddressInUse(address)
    return address
