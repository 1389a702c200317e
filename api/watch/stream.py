"""One watch, from its first event to its last, as chunks of lines.

The stream decides what a watcher sees; waiting and rendering are given to it. An object that stops matching the
watcher's selection is DELETED for that watcher, one that starts to match is ADDED, whatever happened to it really.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Literal, Protocol

from api.encoding import Codec
from api.selection import Kept, Selection
from api.watch.topic import Change, Cursor, Topic
from kube.errors import ApiError, Gone

EventType = Literal["ADDED", "MODIFIED", "DELETED"]
_BOOKMARK_SECONDS: Final = 60.0
_EVENTS_A_CHUNK: Final = 200


class Rendering(Protocol):
    """How events look on the wire."""

    def event(self, event_type: EventType, kept: Kept) -> bytes: ...
    def bookmark(self, revision: int, *, ends_initial: bool) -> bytes: ...
    def error(self, error: ApiError) -> bytes: ...


class Waiter(Protocol):
    """Waiting for news without missing any."""

    def wake(self) -> None:
        """There is news; called from any thread."""
        ...

    def wait(self, seconds: float) -> bool:
        """Return at news or when the time is over; False when the client has gone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a client asked of its watch."""

    selection: Selection
    start: int | None  # the revision to go on from; None: begin with everything there is
    seconds: float
    bookmarks: bool
    initial_events_end: bool  # mark the end of the initial events with a bookmark


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A watch that has found its place: what it sends first, and where it goes on."""

    initial: Sequence[Kept]
    revision: int
    cursor: Cursor


def opened(topic: Topic, terms: Terms) -> Opening:
    """Find the place in the topic; raises Gone while there is still an HTTP status to say it with."""
    if terms.start is not None:
        return Opening(initial=(), revision=terms.start, cursor=topic.follow_after(terms.start))
    cut, cursor = topic.follow()
    initial = [kept for kept in cut.items if terms.selection.includes(kept)]
    return Opening(initial=initial, revision=cut.revision, cursor=cursor)


class Stream:
    """The events of one watch; iterate over it once."""

    def __init__(
        self, topic: Topic, terms: Terms, rendering: Rendering, waiter: Waiter, clock: Callable[[], float]
    ) -> None:
        self._topic = topic
        self._terms = terms
        self._rendering = rendering
        self._waiter = waiter
        self._clock = clock
        self._opening = opened(topic, terms)

    def chunks(self) -> Iterator[bytes]:
        """What to send, whenever there is something; ends with the time, the server or the client."""
        self._topic.listen(self._waiter.wake)
        try:
            yield b""  # the headers: a client must know that it watches before there is an event
            yield from self._initial()
            yield from self._following()
        finally:
            self._topic.forget(self._waiter.wake)

    def _initial(self) -> Iterator[bytes]:
        yield from _joined(self._rendering.event("ADDED", kept) for kept in self._opening.initial)
        if self._terms.initial_events_end:
            yield self._rendering.bookmark(self._opening.revision, ends_initial=True)

    def _following(self) -> Iterator[bytes]:
        cursor, revision = self._opening.cursor, self._opening.revision
        end = self._clock() + self._terms.seconds
        bookmark = self._next_bookmark()
        while True:
            try:
                changes, revision = cursor.read()
            except Gone as gone:
                yield self._rendering.error(gone)
                return
            yield from _joined(self._events(changes))
            now = self._clock()
            if self._terms.bookmarks and now >= min(bookmark, end):
                yield self._rendering.bookmark(revision, ends_initial=False)
                bookmark = self._next_bookmark()
            if now >= end or self._topic.is_closed or not self._waiter.wait(min(bookmark, end) - now):
                return

    def _next_bookmark(self) -> float:
        return self._clock() + _BOOKMARK_SECONDS if self._terms.bookmarks else math.inf

    def _events(self, changes: Iterable[Change]) -> Iterator[bytes]:
        for change in changes:
            if (seen := seen_by(self._terms.selection, change, self._topic.codec)) is not None:
                yield self._rendering.event(*seen)


def seen_by(selection: Selection, change: Change, codec: Codec) -> tuple[EventType, Kept] | None:
    """What a watcher with this selection sees of a change."""
    was, now = selection.includes(change.old), selection.includes(change.new)
    if now and change.new is not None:
        return ("MODIFIED" if was else "ADDED"), change.new
    if was and change.old is not None:
        # The last state it saw, at the revision at which it went out of sight, so that it can go on from there.
        encoded = codec.moved(change.old.encoded, change.old.revision, change.revision)
        return "DELETED", replace(change.old, revision=change.revision, encoded=encoded)
    return None


def _joined(lines: Iterator[bytes]) -> Iterator[bytes]:
    while chunk := b"".join(islice(lines, _EVENTS_A_CHUNK)):
        yield chunk
