"""One kind's objects and its recent history, in memory.

Readers get consistent cuts: the objects and the revision at which they are true are taken under one lock. History is
a plain sequence with absolute positions; a watcher is a position in it.
"""

import bisect
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from api.encoding import Codec, decode
from api.model import Object, Strategy
from api.selection import Kept
from api.store.store import Entry, Event
from kube.errors import Gone

# Changes of one kind that a slow watcher may lag behind before it has to list again.
_HISTORY: Final = 10_000
_LAST_CHARACTER: Final = "\U0010ffff"
Wake = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One object before and after a commit; None where it was not, or is no more."""

    revision: int
    old: Kept | None
    new: Kept | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Objects in key order and the revision at which they are all there is."""

    revision: int
    items: tuple[Kept, ...]


class Topic:
    """The memory of one kind; the hub alone applies events to it."""

    def __init__(self, strategy: Strategy, *, history: int = _HISTORY) -> None:
        self.strategy = strategy
        self.resource = strategy.resource
        self.codec = Codec(strategy.resource)
        self.prefix = f"/registry/{self.resource.group or 'core'}/{self.resource.plural}/"
        self._limit = history
        self._lock = threading.Lock()
        self._items: dict[str, Kept] = {}
        self._order: list[str] = []
        self._history: list[Change] = []
        self._first = 0  # absolute position of _history[0]
        self._oldest = 0  # every change after this revision is in _history
        self._revision = 0
        self._listeners: set[Wake] = set()
        self._closed = False
        self.selectable = frozenset(strategy.selectable_fields({"metadata": {}}))

    @property
    def is_closed(self) -> bool:
        return self._closed

    def key(self, namespace: str | None, name: str) -> str:
        """The store's key of an object."""
        return f"{self.prefix}{namespace}/{name}" if self.resource.namespaced else f"{self.prefix}{name}"

    def get(self, namespace: str | None, name: str) -> Kept | None:
        with self._lock:
            return self._items.get(self.key(namespace, name))

    def cut(self, namespace: str | None = None) -> Cut:
        """Every object now, in one namespace or in all."""
        with self._lock:
            return self._cut_now(namespace)

    def cut_at(self, revision: int) -> Cut:
        """Every object as it was at a revision; raises Gone when history does not reach back that far."""
        with self._lock:
            position = self._position_after(revision)
            items = dict(self._items)
            for change in reversed(self._history[position - self._first :]):
                self._undo(items, change)
            return Cut(revision=revision, items=tuple(items[key] for key in sorted(items)))

    def seed(self, entries: Iterable[Entry], revision: int) -> None:
        """Start from these objects, true at this revision; there is no history before it."""
        with self._lock:
            self._items = {entry.key: self.keep(entry) for entry in entries}
            self._order = sorted(self._items)
            self._oldest = self._revision = revision

    def apply(self, events: Sequence[Event], revision: int) -> None:
        """Take in what happened to this kind up to a revision, and wake whoever listens."""
        with self._lock:
            self._history.extend(self._change(event) for event in events)
            self._revision = revision
            self._trim()
            wakes = tuple(self._listeners) if events else ()
        for wake in wakes:
            wake()

    def close(self) -> None:
        """Let every watcher end."""
        with self._lock:
            self._closed = True
            wakes = tuple(self._listeners)
        for wake in wakes:
            wake()

    def listen(self, wake: Wake) -> None:
        """Call `wake` after every change, and on closing."""
        with self._lock:
            self._listeners.add(wake)

    def forget(self, wake: Wake) -> None:
        with self._lock:
            self._listeners.discard(wake)

    def follow(self) -> tuple[Cut, "Cursor"]:
        """Every object now, and a cursor for what comes next."""
        with self._lock:
            return self._cut_now(), Cursor(self, self._first + len(self._history))

    def follow_after(self, revision: int) -> "Cursor":
        """A cursor for what happened after a revision; raises Gone when that is not known."""
        with self._lock:
            return Cursor(self, self._position_after(revision))

    def since(self, position: int) -> tuple[tuple[Change, ...], int, int]:
        """Changes from a position on, the position after them, and the revision up to which they are all."""
        with self._lock:
            if position < self._first:
                raise Gone(f"the watch of {self.resource.plural} fell behind by more than {self._limit} changes")
            changes = tuple(self._history[position - self._first :])
            return changes, position + len(changes), self._revision

    def _cut_now(self, namespace: str | None = None) -> Cut:
        keys: Iterable[str] = self._order
        if namespace is not None and self.resource.namespaced:
            first = bisect.bisect_left(self._order, self.key(namespace, ""))
            last = bisect.bisect_left(self._order, self.key(namespace, _LAST_CHARACTER), lo=first)
            keys = self._order[first:last]
        return Cut(revision=self._revision, items=tuple(map(self._items.__getitem__, keys)))

    def _position_after(self, revision: int) -> int:
        if revision < self._oldest:
            raise Gone(f"too old resource version: {revision} ({self._oldest})")
        if revision > self._revision:
            # Only another store could have given it out: the client must start from what is here.
            raise Gone(f"unknown resource version: {revision}, the newest is {self._revision}")
        return self._first + bisect.bisect_right(self._history, revision, key=_revision_of)

    def _change(self, event: Event) -> Change:
        old = self._items.pop(event.key, None)
        if event.value is None:
            if old is not None:
                del self._order[bisect.bisect_left(self._order, event.key)]
            return Change(revision=event.revision, old=old, new=None)
        if old is None:
            bisect.insort(self._order, event.key)
        new = self.keep(Entry(key=event.key, value=event.value, revision=event.revision))
        self._items[event.key] = new
        return Change(revision=event.revision, old=old, new=new)

    def _undo(self, items: dict[str, Kept], change: Change) -> None:
        subject = change.new or change.old
        if subject is None:
            return
        key = self.key(subject.namespace, subject.name)
        if change.old is None:
            items.pop(key, None)
        else:
            items[key] = change.old

    def _trim(self) -> None:
        """Forget the older half when there is twice as much as promised, so that forgetting is rare and cheap."""
        if len(self._history) < 2 * self._limit:
            return
        gone = len(self._history) - self._limit
        self._oldest = self._history[gone - 1].revision
        del self._history[:gone]
        self._first += gone

    def keep(self, entry: Entry) -> Kept:
        """Read a stored object; writers try this before they store it, so that it never fails afterwards."""
        obj: Object = decode(entry.value)
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        return Kept(
            namespace=namespace,
            name=name,
            revision=entry.revision,
            encoded=self.codec.at(entry.value, entry.revision),
            labels=metadata.get("labels") or {},
            fields={
                "metadata.name": name,
                "metadata.namespace": namespace,
                **self.strategy.selectable_fields(obj),
            },
        )


class Cursor:
    """A watcher's place in the history of a topic."""

    def __init__(self, topic: Topic, position: int) -> None:
        self._topic = topic
        self._position = position

    def read(self) -> tuple[tuple[Change, ...], int]:
        """What happened since the last call, and the revision up to which that is all; raises Gone."""
        changes, self._position, revision = self._topic.since(self._position)
        return changes, revision


def _revision_of(change: Change) -> int:
    return change.revision
