"""Where objects live: a flat map from keys to bytes under one revision counter, shaped like etcd v3.

A commit is a comparison of revisions and a set of writes: all of it happens, or none of it. It moves the store's
revision on by one, and that revision becomes the revision of every key it wrote. Guards, writes, prefix lists and
events after a revision are exactly what an etcd transaction, range and watch offer, so a store can be a file or a
cluster and the rest of the server does not know which.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key as it is, and the revision that wrote it."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A commit goes in only if this key is still at this revision; 0 means the key must be absent."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """The new value of a key; None removes the key."""

    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What one commit did to one key. `value` is None when the key went away, `previous` when it was new."""

    revision: int
    key: str
    value: bytes | None
    previous: Entry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Entries in key order, all as they were at one revision."""

    revision: int
    entries: tuple[Entry, ...]


class StoreError(Exception):
    """The store did not do what it was asked."""


class GuardFailed(StoreError):
    """A key is not at the revision the writer expected; nothing was written."""

    def __init__(self, guard: Guard, found: int) -> None:
        super().__init__(guard, found)
        self.guard = guard
        self.found = found

    def __str__(self) -> str:
        return f"{self.guard.key} is at revision {self.found}, not {self.guard.revision}"


class Compacted(StoreError):
    """Events that old are no longer kept."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(asked, oldest)
        self.asked = asked
        self.oldest = oldest

    def __str__(self) -> str:
        return f"events after revision {self.asked} are gone; the oldest kept follow revision {self.oldest}"


class StoreUnavailable(StoreError):
    """The store cannot be read or written now: disk full, read-only, in use by somebody else."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"store {self.path} is not available: {self.reason}"


class StoreDamaged(StoreUnavailable):
    """The store's content cannot be trusted."""

    def __str__(self) -> str:
        return f"store {self.path} is damaged: {self.reason}; restore it from a copy or move it away to start empty"


class Store(Protocol):
    """A durable map with revisions; safe to use from many threads."""

    @property
    def revision(self) -> int:
        """The revision of the newest commit; 0 when nothing was ever written."""
        ...

    @property
    def oldest(self) -> int:
        """Events after this revision are kept."""
        ...

    def get(self, key: str) -> Entry | None: ...

    def list(self, prefix: str) -> Listing:
        """Every entry whose key starts with the prefix, and the revision at which this is true."""
        ...

    def commit(self, guards: Sequence[Guard], writes: Sequence[Write]) -> int:
        """Write everything and return the new revision, or raise GuardFailed and write nothing."""
        ...

    def events(self, after: int) -> Sequence[Event]:
        """Everything that happened after a revision, in order; raises Compacted when that is too long ago."""
        ...

    def close(self) -> None: ...
