"""Watching from inside the server's process: how controllers learn that something changed.

A subscription starts with everything there is and goes on with every change. Should it fall behind, it starts over:
controllers are level-triggered, so seeing an object again is harmless and missing one is impossible.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from api.encoding import decode
from api.model import Object
from api.selection import Kept
from api.watch.topic import Cursor, Topic
from kube.errors import Gone
from kube.resources import ResourceType


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One object before and after; the first notices of a subscription have no `old`."""

    resource: ResourceType
    old: Object | None
    new: Object | None

    @property
    def key(self) -> tuple[str, str]:
        """Namespace ("" for kinds without) and name."""
        metadata = (self.new or self.old or {"metadata": {"name": ""}})["metadata"]
        return metadata.get("namespace", ""), metadata["name"]


class Subscription:
    """Use it as a context manager from one thread."""

    def __init__(self, topics: Sequence[Topic]) -> None:
        self._cursors: dict[Topic, Cursor | None] = dict.fromkeys(topics)
        self._changed = threading.Event()
        self._changed.set()
        for topic in topics:
            topic.listen(self._changed.set)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for topic in self._cursors:
            topic.forget(self._changed.set)

    def wake(self) -> None:
        """Let `take` return now, from another thread."""
        self._changed.set()

    def take(self, seconds: float | None = None) -> list[Notice]:
        """Wait for news and return them all; empty when the time is over, `wake` was called or the server stops."""
        self._changed.wait(seconds)
        self._changed.clear()
        return [notice for topic in self._cursors for notice in self._news(topic)]

    def _news(self, topic: Topic) -> list[Notice]:
        cursor = self._cursors[topic]
        try:
            changes = cursor.read()[0] if cursor else None
        except Gone:
            changes = None
        if changes is not None:
            return [_notice(topic, change.old, change.new) for change in changes]
        cut, self._cursors[topic] = topic.follow()
        return [_notice(topic, None, kept) for kept in cut.items]


def _notice(topic: Topic, old: Kept | None, new: Kept | None) -> Notice:
    return Notice(resource=topic.resource, old=_decoded(old), new=_decoded(new))


def _decoded(kept: Kept | None) -> Object | None:
    return decode(kept.encoded) if kept else None
