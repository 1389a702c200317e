"""The lease file as a file: made, opened, recognised, and read and written in transactions.

Every change is one transaction, so a kill -9 leaves either the old state or the new one. WAL with synchronous=NORMAL
loses at most the last commits when the machine itself stops, and a machine that stopped has no pods left.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from ipam import layout
from ipam.errors import LeasesBusy, LeasesInaccessible, LeasesUnreadable

NAME = "leases.db"


class LeaseFile:
    """An open lease file. One object serves one thread."""

    def __init__(self, directory: Path, *, patience: float) -> None:
        """Open the file below `directory`, and make both when they are absent; wait `patience` seconds for others."""
        self.path = directory / NAME
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
            (found,) = self._sql.execute("PRAGMA user_version").fetchone()
            self._sql.execute("PRAGMA synchronous = NORMAL")
            # Every worker of the agent has a connection with a cache of its own; the kernel caches the file for all.
            self._sql.execute("PRAGMA cache_size = -256")
        if found != layout.LAYOUT:
            raise LeasesUnreadable(self.path, f"its layout is {found}, this version reads {layout.LAYOUT}")

    def is_current(self) -> bool:
        """Whether the path still leads to the file that is open here: somebody may have moved it away."""
        return _identity(self.path) == self._identity

    def close(self) -> None:
        self._sql.close()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with _explained(self.path):
            return self._sql.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        # IMMEDIATE: a transaction that reads first and writes later could otherwise fail at its first write.
        with _explained(self.path):
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield self._sql
                self._sql.execute("COMMIT")
            except BaseException:
                # A full disk makes SQLite roll back by itself.
                if self._sql.in_transaction:
                    self._sql.execute("ROLLBACK")
                raise


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _create(path: Path) -> None:
    """Make the file complete, then give it its name: nobody ever opens half a layout, and the first of many wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with _explained(draft), closing(sqlite3.connect(draft, isolation_level=None)) as sql:
            layout.create(sql)
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
