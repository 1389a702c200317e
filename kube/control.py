"""Keep calling until it is done: a keyed, level-triggered loop.

Events say *which key* to look at, never what happened; a round looks at what is true now. Marks made while a key
waits, or while its round runs, become one more round. A key whose round failed comes back after a wait that doubles,
while the others go on.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, Generic, TypeVar

import structlog

from kube.backoff import Backoff

log = structlog.get_logger(__name__)

BACKOFF: Final = Backoff(first=0.05, longest=30.0)

K = TypeVar("K", bound=Hashable)


class SyncFailed(Exception):
    """Some keys of a round failed, each for its reason; all others of the round succeeded."""

    def __init__(self, failures: Mapping[Any, Exception]) -> None:
        super().__init__(failures)
        self.failures = dict(failures)

    def __str__(self) -> str:
        return "; ".join(f"{key}: {error}" for key, error in self.failures.items())


class DirtySet(Generic[K]):
    """Keys to look at, and when. Pure: the time is an argument."""

    def __init__(self, backoff: Backoff = BACKOFF) -> None:
        self._backoff = backoff
        self._due: dict[K, float] = {}
        self._failures: dict[K, int] = {}

    def mark(self, key: K, due: float) -> None:
        """Look at this key at that time, or earlier if that was already planned."""
        self._due[key] = min(due, self._due.get(key, due))

    def next_due(self) -> float | None:
        """When the first key is to be looked at; None when there is nothing to do."""
        return min(self._due.values(), default=None)

    def take(self, now: float) -> frozenset[K]:
        """Take the keys whose time has come; marks made from now on count for the next round."""
        taken = frozenset(key for key, due in self._due.items() if due <= now)
        for key in taken:
            del self._due[key]
        return taken

    def succeeded(self, keys: frozenset[K]) -> None:
        for key in keys:
            self._failures.pop(key, None)

    def failed(self, key: K, now: float) -> float:
        """Plan another try and return the wait before it. A mark made meanwhile brings the key back at once."""
        self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._backoff.delay(self._failures[key])
        self.mark(key, now + delay)
        return delay


class ControlLoop(Generic[K]):
    """Runs `sync` on marked keys, in the thread that calls `run`. `mark` and `stop` may come from any thread.

    With `rest`, a round is followed by a pause as long as the CPU time it took, but not longer than that: under a steady
    stream of marks the loop takes half a processor at most, and a mark that comes alone still does not wait.
    """

    def __init__(
        self,
        name: str,
        *,
        backoff: Backoff = BACKOFF,
        clock: Callable[[], float] = time.monotonic,
        rest: float = 0.0,
    ) -> None:
        self._longest_rest = rest
        self._log = log.bind(loop=name)
        self._clock = clock
        self._dirty: DirtySet[K] = DirtySet(backoff)
        # No lock: two threads that list 10,000 objects each would wait for it, and for the interpreter's, in turns.
        self._marks: deque[tuple[K, float]] = deque()
        self._marked = threading.Event()
        self._stopped = threading.Event()

    def mark(self, key: K, *, after: float = 0.0) -> None:
        """Look at this key soon, or after so many seconds."""
        self._marks.append((key, self._clock() + after))
        if not self._marked.is_set():
            self._marked.set()

    def stop(self) -> None:
        """Let `run` return when its current round is over."""
        self._stopped.set()
        self._marked.set()

    def run(self, sync: Callable[[frozenset[K]], None]) -> None:
        """Call `sync` with all due keys, again and again, until `stop`.

        It may raise SyncFailed for some of them; any other exception means that all of them failed.
        """
        while keys := self._await_keys():
            began = time.thread_time()
            self._round(keys, sync)
            self._rest(min(time.thread_time() - began, self._longest_rest))

    def run_due(self, sync: Callable[[frozenset[K]], None]) -> frozenset[K]:
        """Do one round with what is due now, if anything is; return the keys it had."""
        self._take_marks()
        keys = self._dirty.take(self._clock())
        if keys:
            self._round(keys, sync)
        return keys

    def _await_keys(self) -> frozenset[K]:
        """Return due keys; none once stopped."""
        while True:
            # First this: whoever marks, or stops, after it sets the event again.
            self._marked.clear()
            if self._stopped.is_set():
                return frozenset()
            self._take_marks()
            now = self._clock()
            due = self._dirty.next_due()
            if due is not None and due <= now:
                return self._dirty.take(now)
            self._marked.wait(None if due is None else due - now)

    def _take_marks(self) -> None:
        while self._marks:
            self._dirty.mark(*self._marks.popleft())

    def _rest(self, seconds: float) -> None:
        if seconds > 0:
            self._stopped.wait(seconds)

    def _round(self, keys: frozenset[K], sync: Callable[[frozenset[K]], None]) -> None:
        failures = _attempt(keys, sync)
        now = self._clock()
        self._dirty.succeeded(keys - failures.keys())
        delays = [self._dirty.failed(key, now) for key in failures]
        if failures:
            self._report(failures, min(delays))

    def _report(self, failures: Mapping[K, Exception], delay: float) -> None:
        """Write one line a round, however many keys failed."""
        key, error = next(iter(failures.items()))
        self._log.warning(
            "sync failed; trying again",
            failed=len(failures),
            key=str(key),
            error=str(error) or type(error).__name__,
            seconds=round(delay, 2),
            exc_info=error if _is_defect(error) else None,
        )


def one_by_one(sync: Callable[[K], None]) -> Callable[[frozenset[K]], None]:
    """Make a round out of a function for one key: a key that fails does not touch the others."""

    def sync_each(keys: frozenset[K]) -> None:
        failures = {key: error for key in keys if (error := _failure(sync, key)) is not None}
        if failures:
            raise SyncFailed(failures)

    return sync_each


def _failure(sync: Callable[[K], None], key: K) -> Exception | None:
    try:
        sync(key)
    except Exception as error:  # noqa: BLE001 - the loop's edge: whatever it is, the key comes back
        return error
    return None


def _attempt(keys: frozenset[K], sync: Callable[[frozenset[K]], None]) -> dict[K, Exception]:
    try:
        sync(keys)
    except SyncFailed as error:
        return error.failures
    except Exception as error:  # noqa: BLE001 - the loop's edge: whatever it is, the keys come back
        return dict.fromkeys(keys, error)
    return {}


def _is_defect(error: Exception) -> bool:
    """Whether a traceback helps: our own errors and the kernel's explain themselves, a KeyError does not."""
    return type(error).__module__ == "builtins" and not isinstance(error, OSError)
