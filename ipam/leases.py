"""The node's leases in one SQLite file, shared by the agent and by any number of plugin processes.

Two keys carry the promises: one owner per address, one lease per attachment. A released address cools down before
another attachment gets it, unless the pool has no other: neighbours' ARP caches and conntrack entries of its former
owner shall be gone by then. Cooling is measured by a clock that nobody can set; the history is told in wall-clock time.
"""

import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from types import TracebackType
from typing import Self

from ipam import allocator, ledger, rows
from ipam.address import Address, packed
from ipam.errors import AlreadyLeased, LeaseError, LeaseLost, LeasesBusy, LeasesInaccessible, LeasesUnreadable
from ipam.file import NAME as FILE
from ipam.file import LeaseFile
from ipam.forecast import WINDOW, Churn
from ipam.history import Tenure, tenures
from ipam.lease import COOLDOWN_SECONDS, Attachment, Claim, Lease, LeasedAddress, State
from ipam.occupancy import Occupancy
from ipam.pool import Pool

__all__ = [
    "FILE",
    "AlreadyLeased",
    "LeaseError",
    "LeaseLost",
    "Leases",
    "LeasesBusy",
    "LeasesInaccessible",
    "LeasesUnreadable",
    "Usage",
    "replace_file",
]

_BUSY_SECONDS = 10.0
_IS_NEW = (
    "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM cursors WHERE network = ?)"
    " AND NOT EXISTS (SELECT 1 FROM leases WHERE network = ?)"
)


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Seconds that only ever grow, for intervals; and the wall clock's, for people."""

    steady: Callable[[], float] = _since_boot
    wall: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How much of a pool is given away. `cooling` addresses are given only when no other is left."""

    pool: Pool
    used: int
    cooling: int

    @property
    def size(self) -> int:
        return self.pool.size

    @property
    def free(self) -> int:
        return self.size - self.used


class Leases:
    """An open lease file. One object serves one thread; open as many as there are callers."""

    def __init__(self, directory: Path, *, patience: float = _BUSY_SECONDS, clocks: Clocks | None = None) -> None:
        """Open the file below `directory`, and make both when they are absent; wait `patience` seconds for others."""
        self._file = LeaseFile(directory, patience=patience)
        self._clocks = clocks or Clocks()

    @property
    def path(self) -> Path:
        return self._file.path

    def is_current(self) -> bool:
        """Whether the path still leads to the file that is open here: somebody may have moved it away."""
        return self._file.is_current()

    def is_sound(self) -> bool:
        """Whether every page of the file can be read and agrees with the others. Raises LeasesUnreadable."""
        return self._file.rows("PRAGMA integrity_check") == [("ok",)]

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin_boot(self, boot_id: str) -> int:
        """Drop every lease of an earlier boot, once per boot; return how many there were."""
        if self._file.rows("SELECT 1 FROM boot WHERE id = ?", boot_id):
            return 0
        with self._file.transaction() as sql:
            dropped = rows.leases(
                sql.execute(f"{rows.SELECT} WHERE boot_id <> ? ORDER BY id, position", (boot_id,)).fetchall()
            )
            for lease in dropped:
                self._drop(sql, lease)
            # No neighbour remembers an address of the time before the boot.
            for (network,) in sql.execute("SELECT DISTINCT network FROM addresses WHERE freed IS NOT NULL").fetchall():
                Occupancy(sql, network).settle(now=self._clocks.steady(), cooldown=0)
            ledger.record(sql, "released", dropped, at=self._clocks.wall())
            sql.execute("DELETE FROM boot")
            sql.execute("INSERT INTO boot VALUES (?)", (boot_id,))
        return len(dropped)

    def assign(
        self,
        ranges: Sequence[Sequence[Pool]],
        claim: Claim,
        *,
        wanted: Sequence[Address] = (),
        cooldown: float = COOLDOWN_SECONDS,
    ) -> Lease:
        """Give one address from each list of ranges, pending; those that are `wanted` where a list has them.

        Raises AlreadyLeased, or a PoolError: nothing is given then.
        """
        shares = allocator.share_out(ranges, wanted)
        network = claim.attachment.network
        with self._file.transaction() as sql:
            if earlier := rows.find(sql, claim.attachment):
                raise AlreadyLeased(earlier)
            occupancy = Occupancy(sql, network)
            occupancy.settle(now=self._clocks.steady(), cooldown=cooldown)
            number = rows.insert(sql, claim, State.PENDING)
            given = tuple(
                _give(occupancy, number, position, pools, share)
                for position, (pools, share) in enumerate(zip(ranges, shares, strict=True))
            )
            lease = Lease(claim=claim, addresses=given, state=State.PENDING)
            ledger.record(sql, "given", [lease], at=self._clocks.wall())
        return lease

    def adopt(self, leases: Sequence[Lease]) -> int:
        """Take over leases that were given by somebody else, all or none; return how many were new.

        Raises AlreadyLeased or AddressInUse when one contradicts a lease that is here.
        """
        with self._file.transaction() as sql:
            return self._adopt(sql, leases)

    def adopt_if_new(self, network: str, survivors: Callable[[], Sequence[Lease]]) -> int:
        """Before a network's first lease: adopt those of the pods that live although the file knows none of them.

        In one transaction, so no call can have wired a pod between the look at the file and the look at the pods.
        """
        if not self._file.rows(_IS_NEW, network, network):
            return 0
        with self._file.transaction() as sql:
            is_new = sql.execute(_IS_NEW, (network, network)).fetchone()
            return self._adopt(sql, survivors()) if is_new else 0

    def activate(self, lease: Lease) -> None:
        """Everything is wired. Raises LeaseLost when the lease is no longer this call's."""
        with self._file.transaction() as sql:
            changed = sql.execute(
                "UPDATE leases SET state = 'active' WHERE token = ? AND network = ? AND container_id = ? AND ifname = ?",
                rows.key(lease),
            ).rowcount
        if not changed:
            raise LeaseLost(lease)

    def release(self, lease: Lease) -> None:
        """Give back exactly this lease; one that is gone, or is another call's by now, is left alone."""
        with self._file.transaction() as sql:
            if self._drop(sql, lease):
                ledger.record(sql, "released", [lease], at=self._clocks.wall())

    def find(self, attachment: Attachment) -> Lease | None:
        found = self._file.rows(
            f"{rows.SELECT} WHERE leases.network = ? AND container_id = ? AND ifname = ? ORDER BY position",
            *(attachment.network, attachment.container_id, attachment.ifname),
        )
        return next(iter(rows.leases(found)), None)

    def of(self, network: str) -> tuple[Lease, ...]:
        """Every lease of a network, in the order of giving."""
        return rows.leases(self._file.rows(f"{rows.SELECT} WHERE leases.network = ? ORDER BY id, position", network))

    def networks(self) -> tuple[str, ...]:
        return tuple(name for (name,) in self._file.rows("SELECT DISTINCT network FROM leases ORDER BY network"))

    def usage(self, network: str, pools: Sequence[Pool]) -> tuple[Usage, ...]:
        """How full each pool is: what STATUS tells before an ADD has to fail."""
        return tuple(self._usage(network, pool) for pool in pools)

    def churn(self, network: str, pool: Pool) -> Churn:
        """What happened to the pool's addresses within the forecast's window."""
        ends = (packed(pool.network.version, int(end)) for end in (pool.first, pool.last))
        since = self._clocks.wall() - WINDOW.total_seconds()
        ((given, released),) = self._file.rows(ledger.CHURN, network, pool.network.version, *ends, since)
        return Churn(given=given, released=released)

    def history(self, address: Address) -> tuple[Tenure, ...]:
        """Everybody who had the address, on whatever network, the oldest first."""
        told = tenures(map(ledger.event_of, self._file.rows(ledger.QUERY, address.version, address.packed)))
        holders = {tenure.attachment for tenure in told if tenure.until is None}
        # A lease may be older than the oldest event that is kept.
        return (*(tenure for tenure in self._held(address) if tenure.attachment not in holders), *told)

    def _held(self, address: Address) -> tuple[Tenure, ...]:
        found = self._file.rows(f"{rows.SELECT} WHERE family = ? AND number = ?", address.version, address.packed)
        return tuple(
            Tenure(address=address, attachment=lease.claim.attachment, owner=lease.claim.owner, since=None, until=None)
            for lease in rows.leases(found)
        )

    def _usage(self, network: str, pool: Pool) -> Usage:
        version = pool.network.version
        ((used, cooling),) = self._file.rows(
            "SELECT count(lease), count(freed) FROM addresses"
            " WHERE network = ? AND family = ? AND number BETWEEN ? AND ?",
            *(network, version, packed(version, int(pool.first)), packed(version, int(pool.last))),
        )
        return Usage(pool=pool, used=used, cooling=cooling)

    def _adopt(self, sql: Connection, leases: Sequence[Lease]) -> int:
        new = [lease for lease in leases if not _is_known(sql, lease)]
        for lease in new:
            occupancy = Occupancy(sql, lease.claim.attachment.network)
            number = rows.insert(sql, lease.claim, lease.state)
            for position, given in enumerate(lease.addresses):
                pool = Pool(network=given.network, first=given.address, last=given.address, gateway=given.gateway)
                occupancy.hold(number, position, pool, given.address)
        ledger.record(sql, "given", new, at=self._clocks.wall())
        return len(new)

    def _drop(self, sql: Connection, lease: Lease) -> bool:
        row = sql.execute(
            "DELETE FROM leases WHERE token = ? AND network = ? AND container_id = ? AND ifname = ? RETURNING id",
            rows.key(lease),
        ).fetchone()
        if row:
            Occupancy(sql, lease.claim.attachment.network).let_go(row[0], now=self._clocks.steady())
        return row is not None


def _give(
    occupancy: Occupancy, lease: int, position: int, pools: Sequence[Pool], share: Address | None
) -> LeasedAddress:
    if share is None:
        pool, address = occupancy.choose(pools, position)
        occupancy.remember(position, address)
    else:
        pool, address = next(pool for pool in pools if share in pool), share
    occupancy.hold(lease, position, pool, address)
    return LeasedAddress(address=address, network=pool.network, gateway=pool.gateway)


def replace_file(directory: Path, leases: Sequence[Lease], boot_id: str) -> Path | None:
    """Put a new file with these leases in the place of the one there; return where the old one is kept.

    The new file is complete before it gets its name: no call ever sees one that lacks a lease.
    """
    path, aside = directory / FILE, directory / f".rebuilt-{secrets.token_hex(4)}"
    try:
        with Leases(aside) as made:
            made.begin_boot(boot_id)
            made.adopt(leases)
        kept = _set_aside(path)
        (aside / FILE).replace(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return kept


def _set_aside(path: Path) -> Path | None:
    if not path.exists():
        return None
    kept = path.with_name(f"{path.name}.damaged-{secrets.token_hex(4)}")
    kept.hardlink_to(path)
    for suffix in ("-wal", "-shm"):  # the old file's log must not be played into the new one
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    return kept


def _is_known(sql: Connection, lease: Lease) -> bool:
    earlier = rows.find(sql, lease.claim.attachment)
    if earlier and earlier.interfaces != lease.interfaces:
        raise AlreadyLeased(earlier)
    return earlier is not None
