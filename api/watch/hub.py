"""Everything the server knows, in memory: the source of every list and every watch.

The hub follows the store: `catch_up` reads the events after the hub's own revision and applies them in order. A
writer calls it after its commit, so it reads what it wrote; a store shared by several servers calls it when the store
says so. Nothing else changes what is in memory.

A watcher has no queue. It holds a position in its kind's history and reads on from there, so a watcher that does not
read costs nothing, holds nobody up, and is told 410 Gone when the history has moved on past it.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from api import claims
from api.model import Strategy
from api.store.store import Entry, Event, Store
from api.watch.topic import Topic
from kube.resources import ResourceType


class Hub:
    """One topic a kind, and the claims, all as of one revision."""

    def __init__(self, store: Store, strategies: Iterable[Strategy]) -> None:
        self._store = store
        self._lock = threading.Lock()
        self.claims = claims.ClaimIndex()
        topics = {strategy.resource: Topic(strategy) for strategy in strategies}
        self.topics: Mapping[ResourceType, Topic] = MappingProxyType(topics)
        self._revision = store.oldest
        self._closed = False
        self._load()

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def revision(self) -> int:
        return self._revision

    def catch_up(self) -> int:
        """Apply what the store has and the hub has not; returns the revision reached."""
        with self._lock:
            events = self._store.events(self._revision)
            if events:
                self._apply(events)
            return self._revision

    def close(self) -> None:
        """End every watch."""
        self._closed = True
        for topic in self.topics.values():
            topic.close()

    def _load(self) -> None:
        """Start where the store's events start and replay them, so that a watch resumes across a restart."""
        events = self._store.events(self._revision)
        entries = _entries_before(self._store.list("").entries, events)
        for topic in self.topics.values():
            topic.seed((entry for entry in entries if entry.key.startswith(topic.prefix)), self._revision)
        for entry in entries:
            if entry.key.startswith(claims.PREFIX):
                self.claims.apply(Event(revision=entry.revision, key=entry.key, value=entry.value, previous=None))
        self._apply(events)

    def _apply(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.key.startswith(claims.PREFIX):
                self.claims.apply(event)
        revision = events[-1].revision if events else self._revision
        for topic in self.topics.values():
            topic.apply([event for event in events if event.key.startswith(topic.prefix)], revision)
        self._revision = revision


def _entries_before(entries: Iterable[Entry], events: Iterable[Event]) -> list[Entry]:
    """The entries as they were before these events, which are all events since then."""
    before: dict[str, Entry | None] = {}
    for event in events:
        before.setdefault(event.key, event.previous)
    untouched = [entry for entry in entries if entry.key not in before]
    return untouched + [entry for entry in before.values() if entry is not None]
