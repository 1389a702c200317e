"""The store in one SQLite file.

Every commit is one IMMEDIATE transaction in write-ahead-log mode with synchronous=FULL: when `commit` returns, the
write survives kill -9 and power loss; when the process dies inside it, the next start sees none of it. One server
uses a file at a time: its cache follows its own commits only, so a second one is refused at the door.
"""

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from api.store.store import Compacted, Entry, Event, Guard, GuardFailed, Listing, StoreDamaged, StoreUnavailable, Write

_APPLICATION_ID: Final = 0x706F6477  # "podw": tells our file from any other SQLite file
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL);
CREATE TABLE events (
    position INTEGER PRIMARY KEY, revision INTEGER NOT NULL, key TEXT NOT NULL,
    value BLOB, previous_value BLOB, previous_revision INTEGER
);
CREATE INDEX events_by_revision ON events (revision);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO counters VALUES ('revision', 0), ('oldest', 0);
"""
# A watch can resume this many commits later; a busy lab writes some hundred a minute.
_KEPT_REVISIONS: Final = 10_000
_COMPACT_EVERY: Final = 1_000
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_LAST_CHARACTER: Final = "\U0010ffff"


class SqliteStore:
    """An api.store.store.Store in a file; `kept` is how many revisions of events stay readable."""

    def __init__(self, path: Path | str, *, kept: int = _KEPT_REVISIONS) -> None:
        self._path = str(path)
        self._kept = kept
        self._lock = threading.Lock()
        self._claim = _claim(self._path)
        try:
            with self._errors():
                self._connection = _open(self._path)
                self._revision = self._counter("revision")
                self._oldest = self._counter("oldest")
        except BaseException:
            self._release()
            raise

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def oldest(self) -> int:
        return self._oldest

    def get(self, key: str) -> Entry | None:
        with self._lock, self._errors():
            return self._entry(key)

    def list(self, prefix: str) -> Listing:
        query = "SELECT key, value, revision FROM entries WHERE key >= ? AND key < ? ORDER BY key"
        with self._lock, self._errors():
            rows = self._connection.execute(query, (prefix, prefix + _LAST_CHARACTER)).fetchall()
            return Listing(revision=self._revision, entries=tuple(_to_entry(*row) for row in rows))

    def commit(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int:
        with self._lock, self._errors():
            # Remembered with the lock still held: a faster commit must not be followed by an older memory.
            self._revision, self._oldest = self._committed(guards, writes)
            return self._revision

    def _committed(self, guards: Sequence[Guard], writes: Sequence[Write]) -> tuple[int, int]:
        with self._transaction():
            for guard in guards:
                self._check(guard)
            revision = self._counter("revision") + 1
            for write in writes:
                self._write(write, revision)
            self._set_counter("revision", revision)
            return revision, self._compact(revision)

    def events(self, after: int) -> Sequence[Event]:
        query = (
            "SELECT revision, key, value, previous_value, previous_revision FROM events"
            " WHERE revision > ? ORDER BY revision, position"
        )
        with self._lock, self._errors():
            if after < self._oldest:
                raise Compacted(after, self._oldest)
            return tuple(_to_event(*row) for row in self._connection.execute(query, (after,)))

    def close(self) -> None:
        with self._lock:
            self._connection.close()
            self._release()

    def _release(self) -> None:
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def _entry(self, key: str) -> Entry | None:
        row = self._connection.execute("SELECT key, value, revision FROM entries WHERE key = ?", (key,)).fetchone()
        return _to_entry(*row) if row else None

    def _check(self, guard: Guard) -> None:
        row = self._connection.execute("SELECT revision FROM entries WHERE key = ?", (guard.key,)).fetchone()
        found = row[0] if row else 0
        if found != guard.revision:
            raise GuardFailed(guard, found)

    def _write(self, write: Write, revision: int) -> None:
        previous = self._entry(write.key)
        if write.value is None:
            self._connection.execute("DELETE FROM entries WHERE key = ?", (write.key,))
        else:
            row = (write.key, write.value, revision)
            self._connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", row)
        before = (previous.value, previous.revision) if previous else (None, None)
        self._connection.execute(
            "INSERT INTO events (revision, key, value, previous_value, previous_revision) VALUES (?, ?, ?, ?, ?)",
            (revision, write.key, write.value, *before),
        )

    def _compact(self, revision: int) -> int:
        """Forget old events, a batch at a time; returns the revision after which all are kept."""
        if revision - self._oldest < self._kept + min(self._kept, _COMPACT_EVERY):
            return self._oldest
        oldest = revision - self._kept
        self._connection.execute("DELETE FROM events WHERE revision <= ?", (oldest,))
        self._set_counter("oldest", oldest)
        return oldest

    def _counter(self, name: str) -> int:
        row = self._connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise StoreDamaged(self._path, f"counter {name} is missing")
        return int(row[0])

    def _set_counter(self, name: str, value: int) -> None:
        self._connection.execute("UPDATE counters SET value = ? WHERE name = ?", (value, name))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite has already rolled back after some errors (full disk), so there may be nothing left to undo.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn SQLite's errors into ours, naming the file."""
        try:
            yield
        except sqlite3.Error as error:
            damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE
            raise (StoreDamaged if damaged else StoreUnavailable)(self._path, str(error)) from error


def _claim(path: str) -> int | None:
    """Lock the file for this process; the kernel lets go when the process ends, however it ends.

    A file of its own: closing any descriptor of the database itself would drop SQLite's POSIX locks on it.
    """
    if path == ":memory:":
        return None
    try:
        claim = _touch(f"{path}.lock")
        os.close(_touch(path))  # SQLite would make it readable for everybody
    except OSError as error:
        raise StoreUnavailable(path, str(error)) from error
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(claim)
        raise StoreUnavailable(path, "another podwire-api uses it") from error
    return claim


def _touch(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _open(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _check_content(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_content(path: str, connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA page_count").fetchone()[0] == 0 or _is_empty(connection):
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_SCHEMA_VERSION};"
            f"{_SCHEMA} COMMIT;"
        )
        return
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise StoreDamaged(path, "it is a SQLite file of another program")
    if (version := connection.execute("PRAGMA user_version").fetchone()[0]) != _SCHEMA_VERSION:
        raise StoreUnavailable(path, f"its schema is version {version}; this server knows {_SCHEMA_VERSION}")
    if (verdict := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise StoreDamaged(path, verdict)


def _is_empty(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()


def _to_entry(key: str, value: bytes, revision: int) -> Entry:
    return Entry(key=key, value=value, revision=revision)


def _to_event(
    revision: int, key: str, value: bytes | None, previous_value: bytes | None, previous_revision: int | None
) -> Event:
    previous = None
    if previous_value is not None and previous_revision is not None:
        previous = Entry(key=key, value=previous_value, revision=previous_revision)
    return Event(revision=revision, key=key, value=value, previous=previous)
