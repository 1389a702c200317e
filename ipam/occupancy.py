"""Which addresses of a network cannot be given, inside a transaction of the lease file.

Beside each address that is held or cooling down, the file keeps the unbroken stretches ("runs") they form. Finding the
next free address is one look at the run behind the last one given, with 20,000 leases as with one, in a /24 as in a /64.
"""

import sqlite3
from collections.abc import Sequence
from ipaddress import ip_address

from ipam import allocator
from ipam.address import Address, packed
from ipam.pool import AddressInUse, Pool, PoolExhausted


class Runs:
    """The unbroken stretches of one family's taken addresses: sorted, never overlapping, never touching."""

    def __init__(self, sql: sqlite3.Connection, network: str, version: int) -> None:
        self._sql, self._network, self._version = sql, network, version

    def end_of_run(self, number: int) -> int | None:
        run = self._at_or_before(number)
        return run[1] if run and number <= run[1] else None

    def add(self, number: int) -> None:
        """Take one free number: it lengthens a run, joins two, or begins one."""
        before = self._at_or_before(number)
        behind = self._at_or_before(number + 1) if number + 1 < 1 << 128 else None
        first, last = number, number
        if before and before[1] == number - 1:
            first = before[0]
        if behind and behind[0] == number + 1:
            last = behind[1]
            self._delete(behind[0])
        self._write(first, last)

    def remove(self, number: int) -> None:
        """Free one taken number: its run becomes shorter, two, or none."""
        run = self._at_or_before(number)
        if run is None or number > run[1]:
            return
        first, last = run
        if first < number:
            self._write(first, number - 1)
        else:
            self._delete(first)
        if number < last:
            self._write(number + 1, last)

    def _at_or_before(self, number: int) -> tuple[int, int] | None:
        row = self._sql.execute(
            "SELECT first, last FROM runs WHERE network = ? AND family = ? AND first <= ? ORDER BY first DESC LIMIT 1",
            (self._network, self._version, self._packed(number)),
        ).fetchone()
        return (int.from_bytes(row[0], "big"), int.from_bytes(row[1], "big")) if row else None

    def _write(self, first: int, last: int) -> None:
        values = (self._network, self._version, self._packed(first), self._packed(last))
        self._sql.execute("REPLACE INTO runs VALUES (?, ?, ?, ?)", values)

    def _delete(self, first: int) -> None:
        self._sql.execute(
            "DELETE FROM runs WHERE network = ? AND family = ? AND first = ?",
            (self._network, self._version, self._packed(first)),
        )

    def _packed(self, number: int) -> bytes:
        # Beyond the family's last address there is nothing to find; the comparison only has to stay true.
        return packed(self._version, min(number, (1 << (32 if self._version == 4 else 128)) - 1))


class Occupancy:
    """One network's taken addresses."""

    def __init__(self, sql: sqlite3.Connection, network: str) -> None:
        self._sql, self._network = sql, network

    def settle(self, *, now: float, cooldown: float) -> None:
        """Set free what has cooled down. A release in the future was stamped by another clock and counts as long ago."""
        rows = self._sql.execute(
            "SELECT family, number FROM addresses WHERE network = ? AND freed IS NOT NULL AND (freed <= ? OR freed > ?)",
            (self._network, now - cooldown, now),
        ).fetchall()
        for version, number in rows:
            self._sql.execute(
                "DELETE FROM addresses WHERE network = ? AND family = ? AND number = ?",
                (self._network, version, number),
            )
            self._runs(version).remove(int.from_bytes(number, "big"))

    def choose(self, pools: Sequence[Pool], position: int) -> tuple[Pool, Address]:
        """The next address of a list of ranges: a free one, else the one that has cooled longest. PoolExhausted."""
        last = self._last_given(position)
        current = next((index for index, pool in enumerate(pools) if last and pool.covers(last)), 0)
        for pool in (*pools[current:], *pools[:current]):
            if (address := allocator.next_gap(pool, self._runs(pool.network.version).end_of_run, last)) is not None:
                return pool, address
        cooling = [found for pool in pools if (found := self._coolest(pool))]
        if not cooling:
            size = sum(pool.size for pool in pools)
            raise PoolExhausted(*(pool.network for pool in pools), used=size, size=size)
        _, pool, address = min(cooling, key=lambda found: found[0])
        return pool, address

    def hold(self, lease: int, position: int, pool: Pool, address: Address) -> None:
        """Give the address to a lease. Raises AddressInUse when another lease has it."""
        version, number = address.version, int(address)
        if self._runs(version).end_of_run(number) is None:
            self._runs(version).add(number)
        given = self._sql.execute(
            "INSERT INTO addresses VALUES (?, ?, ?, ?, ?, ?, ?, NULL)"
            " ON CONFLICT DO UPDATE SET lease = excluded.lease, position = excluded.position, subnet = excluded.subnet,"
            " gateway = excluded.gateway, freed = NULL WHERE lease IS NULL",
            (
                *(self._network, version, packed(version, number), lease, position),
                *(str(pool.network), str(pool.gateway) if pool.gateway else None),
            ),
        ).rowcount
        if not given:
            raise AddressInUse(address, self._owner(address))

    def remember(self, position: int, address: Address) -> None:
        """Go on behind this address the next time."""
        self._sql.execute("REPLACE INTO cursors VALUES (?, ?, ?)", (self._network, position, str(address)))

    def let_go(self, lease: int, *, now: float) -> None:
        """The lease's addresses begin to cool down."""
        self._sql.execute("UPDATE addresses SET lease = NULL, freed = ? WHERE lease = ?", (now, lease))

    def _runs(self, version: int) -> Runs:
        return Runs(self._sql, self._network, version)

    def _last_given(self, position: int) -> Address | None:
        row = self._sql.execute(
            "SELECT address FROM cursors WHERE network = ? AND position = ?", (self._network, position)
        ).fetchone()
        return ip_address(row[0]) if row else None

    def _coolest(self, pool: Pool) -> tuple[float, Pool, Address] | None:
        version = pool.network.version
        rows = self._sql.execute(
            "SELECT freed, number FROM addresses WHERE network = ? AND freed IS NOT NULL AND family = ?"
            " AND number BETWEEN ? AND ? ORDER BY freed",
            (self._network, version, packed(version, int(pool.first)), packed(version, int(pool.last))),
        )
        for freed, number in rows:
            if (address := pool.address(int.from_bytes(number, "big"))) in pool:
                return freed, pool, address
        return None

    def _owner(self, address: Address) -> str:
        row = self._sql.execute(
            "SELECT owner FROM addresses JOIN leases ON lease = id WHERE addresses.network = ? AND family = ? AND number = ?",
            (self._network, address.version, address.packed),
        ).fetchone()
        return str(row[0]) if row else ""
