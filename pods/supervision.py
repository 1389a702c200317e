"""When to start a component again: decisions without processes or clocks.

A component that ends is started again at once the first time, then later and later while it keeps failing, and at once
again after it has run well for a while. Time is an argument, in seconds of a clock that only goes forward.
"""

from dataclasses import dataclass, replace
from typing import Final

from kube.backoff import Backoff

BACKOFF: Final = Backoff(first=0.2, longest=10.0)
WELL_AFTER: Final = 10.0  # seconds of running that make earlier failures forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a component did so far. `start_at`: not before then; meaningful while it is not running."""

    started_at: float = 0.0
    failures: int = 0
    restarts: int = 0
    start_at: float = 0.0
    last_exit: str = ""


def started(history: History, now: float) -> History:
    return replace(history, started_at=now)


def ended(history: History, now: float, how: str) -> History:
    """Account for an end nobody asked for: count it and say when to start again."""
    failures = 1 if now - history.started_at >= WELL_AFTER else history.failures + 1
    return replace(
        history, failures=failures, restarts=history.restarts + 1, start_at=now + delay(failures), last_exit=how
    )


def forgiven(history: History) -> History:
    """Start at once: somebody has repaired what made it fail."""
    return replace(history, failures=0, start_at=0.0)


def delay(failures: int) -> float:
    return BACKOFF.delay(failures - 1) if failures > 1 else 0.0


def describe_exit(code: int | None) -> str:
    """Say how a process ended, from what a shell would call its exit status; None when nobody could know."""
    if code is None:
        return "ended"
    return f"killed by signal {code - 128}" if code > 128 else f"exit status {code}"
