"""The node's leases in one SQLite file, shared by the agent and by any number of plugin processes.

Two UNIQUE constraints carry the promises: one owner per address, one address per attachment and family. Every change
is one transaction, so a kill -9 leaves either the old state or the new one. WAL with synchronous=NORMAL loses at most
the last commits when the machine itself stops, and a machine that stopped has no pods left: leases of an earlier boot
are dropped at the first ADD.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ipam import allocator
from ipam.lease import Attachment, Claim, Lease, Sandbox, State
from ipam.pool import Pool, PoolExhausted

FILE = "leases.db"
_BUSY_SECONDS = 10.0
_LAYOUT = 1
_SCHEMA = f"""
PRAGMA journal_mode = WAL;
CREATE TABLE leases (
    network      TEXT NOT NULL,
    container_id TEXT NOT NULL,
    ifname       TEXT NOT NULL,
    family       INTEGER NOT NULL,
    address      TEXT NOT NULL,
    subnet       TEXT NOT NULL,
    gateway      TEXT,
    state        TEXT NOT NULL CHECK (state IN ('pending', 'active')),
    token        TEXT NOT NULL,
    netns_device INTEGER NOT NULL,
    netns_inode  INTEGER NOT NULL,
    boot_id      TEXT NOT NULL,
    host_veth    TEXT NOT NULL,
    owner        TEXT NOT NULL,
    UNIQUE (network, address),
    UNIQUE (network, container_id, ifname, family)
) STRICT;
CREATE TABLE cursors (network TEXT PRIMARY KEY, address TEXT NOT NULL) STRICT;
CREATE TABLE boot (id TEXT NOT NULL) STRICT;
PRAGMA user_version = {_LAYOUT};
"""


class LeaseError(Exception):
    """The lease file refused."""


class LeasesUnreadable(LeaseError):
    """The file is damaged, or is not a lease file of this version."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"lease file {self.path}: {self.reason}; stop this node's pods and move the file away, or restore it from a copy"


class LeasesBusy(LeaseError):
    """Somebody has kept the file locked for too long."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"lease file {self.path} stayed locked by another process; try again"


class LeasesInaccessible(LeaseError):
    """The file could not be read or written, for reasons of the disk or the file system."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"lease file {self.path}: {self.reason}; look at the disk and at who may write there"


class AlreadyLeased(LeaseError):
    """The attachment has a lease."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(lease)
        self.lease = lease

    def __str__(self) -> str:
        return f"{self.lease.claim.attachment} already has {self.lease.address}; delete it first"


class LeaseLost(LeaseError):
    """The lease was given back by somebody else while its attachment was being wired."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(lease)
        self.lease = lease

    def __str__(self) -> str:
        return f"the lease of {self.lease.address} for {self.lease.claim.attachment} was released during the call"


class Leases:
    """An open lease file. One object serves one thread; open as many as there are callers."""

    def __init__(self, directory: Path, *, patience: float = _BUSY_SECONDS) -> None:
        """Open the file below `directory`, and make both when they are absent; wait `patience` seconds for others."""
        self.path = directory / FILE
        if not self.path.exists():
            _create(self.path)
        with _explained(self.path):
            self._sql = sqlite3.connect(self.path, timeout=patience, isolation_level=None)
            self._identity = _identity(self.path)
        try:
            self._check_layout()
        except BaseException:
            self._sql.close()
            raise

    def _check_layout(self) -> None:
        with _explained(self.path):
            (layout,) = self._sql.execute("PRAGMA user_version").fetchone()
            self._sql.execute("PRAGMA synchronous = NORMAL")
        if layout != _LAYOUT:
            raise LeasesUnreadable(self.path, f"its layout is {layout}, this version reads {_LAYOUT}")

    def is_current(self) -> bool:
        """Whether the path still leads to the file that is open here: somebody may have moved it away."""
        return _identity(self.path) == self._identity

    def close(self) -> None:
        self._sql.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin_boot(self, boot_id: str) -> int:
        """Drop every lease of an earlier boot, once per boot; return how many there were."""
        if self._rows("SELECT 1 FROM boot WHERE id = ?", boot_id):
            return 0
        with self._transaction():
            dropped = self._sql.execute("DELETE FROM leases WHERE boot_id <> ?", (boot_id,)).rowcount
            self._sql.execute("DELETE FROM boot")
            self._sql.execute("INSERT INTO boot VALUES (?)", (boot_id,))
        return dropped

    def assign(self, pools: Sequence[Pool], claim: Claim) -> Lease:
        """Give the next free address of the pools, pending. Raises AlreadyLeased or PoolExhausted."""
        network = claim.attachment.network
        with self._transaction():
            if lease := self._find(claim.attachment):
                raise AlreadyLeased(lease)
            pool, address = _choose(pools, _Taken(self._sql, network), self._last_given(network))
            lease = Lease(claim=claim, address=address, network=pool.network, gateway=pool.gateway, state=State.PENDING)
            self._insert(lease)
            self._sql.execute("REPLACE INTO cursors VALUES (?, ?)", (network, str(address)))
        return lease

    def activate(self, lease: Lease) -> None:
        """Everything is wired. Raises LeaseLost when the lease is no longer this call's."""
        with self._transaction():
            changed = self._sql.execute(
                "UPDATE leases SET state = 'active' WHERE token = ? AND network = ? AND address = ?",
                (lease.claim.token, lease.claim.attachment.network, str(lease.address)),
            ).rowcount
        if not changed:
            raise LeaseLost(lease)

    def release(self, lease: Lease) -> None:
        """Give back exactly this lease; one that is gone, or is another call's by now, is left alone."""
        with self._transaction():
            self._sql.execute(
                "DELETE FROM leases WHERE token = ? AND network = ? AND address = ?",
                (lease.claim.token, lease.claim.attachment.network, str(lease.address)),
            )

    def find(self, attachment: Attachment) -> Lease | None:
        with _explained(self.path):
            return self._find(attachment)

    def of(self, network: str) -> tuple[Lease, ...]:
        """Every lease of a network, in the order of giving."""
        return tuple(map(_lease, self._rows("SELECT * FROM leases WHERE network = ? ORDER BY rowid", network)))

    def count(self, network: str) -> dict[IPv4Network, int]:
        """How many addresses of each subnet a network has given."""
        rows = self._rows("SELECT subnet, COUNT(*) FROM leases WHERE network = ? GROUP BY subnet", network)
        return {IPv4Network(subnet): number for subnet, number in rows}

    def _find(self, attachment: Attachment) -> Lease | None:
        row = self._sql.execute(
            "SELECT * FROM leases WHERE network = ? AND container_id = ? AND ifname = ? AND family = 4",
            (attachment.network, attachment.container_id, attachment.ifname),
        ).fetchone()
        return _lease(row) if row else None

    def _last_given(self, network: str) -> IPv4Address | None:
        row = self._sql.execute("SELECT address FROM cursors WHERE network = ?", (network,)).fetchone()
        return IPv4Address(row[0]) if row else None

    def _insert(self, lease: Lease) -> None:
        claim, attachment, sandbox = lease.claim, lease.claim.attachment, lease.claim.sandbox
        owned = (attachment.network, attachment.container_id, attachment.ifname, lease.address.version)
        given = (str(lease.address), str(lease.network), str(lease.gateway) if lease.gateway else None, lease.state)
        proof = (claim.token, sandbox.device, sandbox.inode, sandbox.boot_id, claim.host_veth, claim.owner)
        self._sql.execute(
            "INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*owned, *given, *proof)
        )

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with _explained(self.path):
            return self._sql.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE: a transaction that reads first and writes later could otherwise fail at its first write.
        with _explained(self.path):
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._sql.execute("ROLLBACK")
                raise
            self._sql.execute("COMMIT")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class _Taken:
    """The leased addresses of a network: asked one at a time, since round robin nearly always needs only one."""

    def __init__(self, sql: sqlite3.Connection, network: str) -> None:
        self._sql, self._network = sql, network

    def __contains__(self, address: object) -> bool:
        query = "SELECT 1 FROM leases WHERE network = ? AND address = ?"
        return self._sql.execute(query, (self._network, str(address))).fetchone() is not None


def _choose(pools: Sequence[Pool], taken: _Taken, last: IPv4Address | None) -> tuple[Pool, IPv4Address]:
    """Go on in the pool that gave the last address, then through the others in their order."""
    current = next((index for index, pool in enumerate(pools) if last and pool.first <= last <= pool.last), 0)
    for pool in (*pools[current:], *pools[:current]):
        if (address := allocator.next_free(pool, taken, last)) is not None:
            return pool, address
    size = sum(pool.size for pool in pools)
    raise PoolExhausted(*(pool.network for pool in pools), used=size, size=size)


def _lease(row: tuple[Any, ...]) -> Lease:
    network, container_id, ifname, _, address, subnet, gateway, state, token, device, inode, boot_id, veth, owner = row
    claim = Claim(
        attachment=Attachment(network=network, container_id=container_id, ifname=ifname),
        token=token,
        sandbox=Sandbox(device=device, inode=inode, boot_id=boot_id),
        host_veth=veth,
        owner=owner,
    )
    return Lease(
        claim=claim,
        address=IPv4Address(address),
        network=IPv4Network(subnet),
        gateway=IPv4Address(gateway) if gateway else None,
        state=State(state),
    )


def _create(path: Path) -> None:
    """Make the file complete, then give it its name: nobody ever opens half a schema, and the first of many wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with _explained(draft), closing(sqlite3.connect(draft, isolation_level=None)) as sql:
            sql.executescript(_SCHEMA)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        for leftover in path.parent.glob(f"{draft.name}*"):
            leftover.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, which name the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:  # the rest is an extension
            raise LeasesBusy(path) from error
        raise LeasesInaccessible(path, str(error)) from error
    except sqlite3.DatabaseError as error:
        raise LeasesUnreadable(path, str(error)) from error
