"""Whether a container is ready, from what its probe answered so far. Pure: time is an argument.

Until a container was ready once it is asked more often than its period says, so that pods come up in the time its
programs need and not in multiples of ten seconds.
"""

from dataclasses import dataclass, replace
from typing import Final

from kube.backoff import Backoff
from kube.objects import Probe

_EAGER: Final = Backoff(first=0.05, longest=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What the probes of one running container said so far. `next_at` is on the clock of whoever asks."""

    next_at: float
    ready: bool = False
    was_ready: bool = False
    successes: int = 0
    failures: int = 0
    message: str = ""


def first(probe: Probe | None, now: float) -> Readiness:
    """Return the readiness of a container that just started; without a probe it is ready at once."""
    if probe is None:
        return Readiness(next_at=float("inf"), ready=True, was_ready=True)
    return Readiness(next_at=now + probe.initial_delay_seconds)


def adopted(probe: Probe | None) -> Readiness:
    """Return the readiness of a container that an earlier runner found ready; it is asked at once."""
    return Readiness(next_at=float("inf") if probe is None else 0.0, ready=True, was_ready=True)


def after(readiness: Readiness, probe: Probe, *, failure: str, now: float) -> Readiness:
    """Account for one answer; `failure` is empty when the probe succeeded."""
    successes = 0 if failure else readiness.successes + 1
    failures = readiness.failures + 1 if failure else 0
    ready = readiness.ready
    if successes >= probe.success_threshold:
        ready = True
    elif failures >= probe.failure_threshold:
        ready = False
    was_ready = readiness.was_ready or ready
    wait = float(probe.period_seconds) if was_ready else min(_EAGER.delay(failures), probe.period_seconds)
    return replace(
        readiness,
        next_at=now + wait,
        ready=ready,
        was_ready=was_ready,
        successes=successes,
        failures=failures,
        message=failure,
    )
