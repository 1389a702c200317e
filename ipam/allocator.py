"""Which address comes next: policy without storage.

Round robin: the search starts behind the address given last and wraps, so an address that was just freed is the last
to come back. That gives neighbours' ARP caches and conntrack entries of its former owner the longest time to go.

The search never walks over addresses: whoever knows what is taken answers with the end of the whole taken stretch.
"""

from collections.abc import Callable, Container, Sequence

from ipam.address import Address
from ipam.pool import AddressInUse, NotInPool, Pool, PoolExhausted, TooManyWanted

EndOfRun = Callable[[int], int | None]
"""Of a number, the last one of the stretch of taken numbers it lies in; None when the number itself is free."""


def next_gap(pool: Pool, end_of_run: EndOfRun, after: Address | None = None) -> Address | None:
    """The first free address behind `after`, wrapping at the pool's end; None when there is none."""
    first, last = int(pool.first), int(pool.last)
    start = int(after) + 1 if after is not None and pool.covers(after) and int(after) < last else first
    for begin, end in ((start, last), (first, start - 1)):
        if (number := _gap(pool, end_of_run, begin, end)) is not None:
            return pool.address(number)
    return None


def _gap(pool: Pool, end_of_run: EndOfRun, number: int, last: int) -> int | None:
    while number <= last:
        end = pool.end_of_exclusion(number)
        if end is None:
            end = end_of_run(number)
        if end is None:
            return number
        number = end + 1
    return None


def next_free(pool: Pool, taken: Container[Address], after: Address | None = None) -> Address | None:
    """The same for callers who know of single addresses only, whether each is taken."""
    return next_gap(pool, lambda number: number if pool.address(number) in taken else None, after)


def assign(pool: Pool, taken: Container[Address], after: Address | None = None) -> Address:
    """The next free address of the pool; PoolExhausted when every one is taken."""
    address = next_free(pool, taken, after)
    if address is None:
        raise PoolExhausted(pool.network, used=pool.size, size=pool.size)
    return address


def reserve(pool: Pool, taken: Container[Address], address: Address) -> Address:
    """The address somebody asked for by name, when the pool may give it and nobody has it."""
    if address not in pool:
        raise NotInPool(address, pool)
    if address in taken:
        raise AddressInUse(address)
    return address


def share_out(ranges: Sequence[Sequence[Pool]], wanted: Sequence[Address]) -> tuple[Address | None, ...]:
    """For each list of ranges the wanted address it is to give, or None for any. Raises when one is wanted in vain."""
    left = list(dict.fromkeys(wanted))
    shares: list[Address | None] = []
    for pools in ranges:
        share = next((address for address in left if any(address in pool for pool in pools)), None)
        if share is not None:
            left.remove(share)
        shares.append(share)
    for address in left:
        every = [pool for pools in ranges for pool in pools]
        raise TooManyWanted(address) if any(address in pool for pool in every) else NotInPool(address, *every)
    return tuple(shares)
