"""List, then watch, for ever: the protocol that keeps a copy of one collection true, without any I/O.

The driver asks `next` what to do, does it, and reports what came; it gets back the changes to make to its copy. Time
and chance are arguments, so every failure can be replayed in a test.

What it promises: it never gives up; a list always ends in Replace, so deletions that nobody saw are seen; a server
that forgot (410 Gone), went back in time or refuses the resourceVersion leads to a new list; a server that is merely
away leads to the same watch again, after a wait that grows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from kube.backoff import Backoff
from kube.errors import ApiError, Forbidden, Gone, ServiceUnavailable, TooManyRequests, Unauthorized, Unreachable
from kube.events import EventDecoder, Garbled, HasMetadata, Key, Put, Remove, Replace

BACKOFF: Final = Backoff(first=0.25, longest=10.0)
PAGE: Final = 500
# A watch lasts this long and up to as much again, so that the watches of many nodes do not end together.
WATCH_SECONDS: Final = 300
# A watch that ends sooner without having said anything new is a failure; else a broken server is asked in a tight loop.
SHORT_WATCH: Final = 1.0
# The longest wait a server may ask for with retryAfterSeconds.
LONGEST_ASKED: Final = 60
# Failures that say nothing about where we were: go on from the same place when they are over. An ERROR event with any
# other reason would come again at the same resourceVersion.
_PASSING: Final = (Unreachable, Unauthorized, Forbidden, TooManyRequests, ServiceUnavailable)

T = TypeVar("T", bound=HasMetadata)


class Moment(NamedTuple):
    """When something happened on a clock that never goes back, and a number in [0, 1) drawn for it."""

    now: float
    jitter: float


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Get one page of the collection and report it: `on_page`, `on_failure`."""

    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """Open a watch and report what becomes of it: `on_open`, `on_line` while `watching`, `on_end`, `on_failure`."""

    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so many seconds; `reason` is what went wrong, None for a watch that ended at once."""

    seconds: float
    reason: Exception | None = None


class WentBack(Exception):
    """The server's resourceVersion went back: its store was restored or replaced, and what we have may never have been."""

    def __init__(self, known: str, received: str) -> None:
        super().__init__(known, received)
        self.known = known
        self.received = received

    def __str__(self) -> str:
        return f"resourceVersion went back from {self.known} to {self.received}"


class Reflector(Generic[T]):
    """The state of one list+watch."""

    def __init__(self, decoder: EventDecoder[T], *, backoff: Backoff = BACKOFF) -> None:
        self._decoder = decoder
        self._backoff = backoff
        self._failures = 0
        self._was_gone = False
        self._reason: Exception | None = None
        self._not_before = float("-inf")
        self._version = ""  # watch from here; empty: list first
        self._opened: float | None = None  # when the current watch was asked for
        self._opened_version = ""
        self._paged = True
        self._start_list()

    @property
    def watching(self) -> bool:
        """Whether the open watch is still worth reading."""
        return self._opened is not None

    @property
    def failures(self) -> int:
        """How often in a row it went wrong; 0 while all is well."""
        return self._failures

    def next(self, at: Moment) -> ListRequest | WatchRequest | Wait:
        """Return what to do now."""
        if at.now < self._not_before:
            return Wait(self._not_before - at.now, self._reason)
        return WatchRequest(self._watch_query(at.jitter)) if self._version else ListRequest(self._list_query())

    def _watch_query(self, jitter: float) -> dict[str, str]:
        return {
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(WATCH_SECONDS * (1.0 + jitter))),
        }

    def _list_query(self) -> dict[str, str]:
        """Ask without a resourceVersion, that is for the newest state; any other could be older than what we have."""
        query = {"limit": str(PAGE)} if self._paged else {}
        return query | ({"continue": self._position} if self._position else {})

    # --- list

    def _start_list(self) -> None:
        self._version = ""
        self._position = ""
        self._list_version = ""
        self._objects: list[T] = []
        self._unreadable: set[Key] = set()

    def on_page(self, body: bytes, at: Moment) -> Replace[T] | None:
        """Take one page; the last one completes the collection."""
        try:
            page = self._decoder.page(body)
            if page.position and page.position == self._position:
                raise Garbled("the list", "the page after this one is this one again")
        except Garbled as error:
            self.on_failure(error, at)
            return None
        self._objects += page.objects
        self._unreadable |= page.unreadable
        # Pages are one snapshot; where a server continues a list with newer pages, only the first version is safe.
        self._list_version = self._list_version or page.version
        self._position = page.position
        return None if page.position else self._finish_list()

    def _finish_list(self) -> Replace[T]:
        replacement = Replace(tuple(self._objects), frozenset(self._unreadable))
        version = self._list_version
        self._start_list()
        self._version = version
        self._paged = True
        return replacement

    # --- watch

    def on_open(self, at: Moment) -> None:
        """The watch that was asked for at this moment was answered."""
        self._opened = at.now
        self._opened_version = self._version

    def on_line(self, line: bytes, at: Moment) -> Put[T] | Remove | None:
        """Take one line of the watch; look at `watching` afterwards."""
        try:
            event = self._decoder.line(line)
            if _is_before(event.version, self._version):
                raise WentBack(self._version, event.version)
        except (Garbled, WentBack, ApiError) as error:
            self.on_failure(error, at)
            return None
        self._version = event.version or self._version
        return event.change

    def on_end(self, at: Moment) -> None:
        """The watch ended as watches do."""
        if not self._was_worth_it(at):
            # Lists, ever less often, still follow what happens when watches tell nothing.
            self._start_list()
            self._count_failure(at)
        self._opened = None

    def _was_worth_it(self, at: Moment) -> bool:
        """Whether the open watch led somewhere or lasted; if so, what went wrong before it is over."""
        if self._opened is None:
            return False
        worth_it = self._version != self._opened_version or at.now - self._opened >= SHORT_WATCH
        if worth_it:
            self._failures = 0
            self._was_gone = False
        return worth_it

    # --- failure

    def on_failure(self, error: Exception, at: Moment) -> None:
        """A request was refused or not answered, or a watch broke off."""
        worth_it = self._was_worth_it(at)
        if not isinstance(error, _PASSING) or (self.watching and not worth_it):
            self._paged = not (isinstance(error, Gone) and self._position)
            self._start_list()
        self._opened = None
        self._count_failure(at, error)

    def _count_failure(self, at: Moment, error: Exception | None = None) -> None:
        self._failures += 1
        self._reason = error
        delay = self._backoff.delay(self._failures, at.jitter)
        if isinstance(error, Gone) and not self._was_gone:
            # Nothing is wrong with the server, and a new list is the cure; if it is not, wait.
            self._was_gone = True
            delay = 0.0
        if isinstance(error, ApiError):
            delay = max(delay, min(error.retry_after, LONGEST_ASKED))
        self._not_before = at.now + delay


def _is_before(version: str, other: str) -> bool:
    """Whether a resourceVersion is older; ones that are not numbers cannot be compared."""
    return version.isdecimal() and other.isdecimal() and (len(version), version) < (len(other), other)
