"""When addresses will run out, told from how many came and went lately. Pure."""

from dataclasses import dataclass
from datetime import timedelta

WINDOW = timedelta(hours=1)
"""How far back one looks: long enough for a deployment to have ended, short enough to see one that has begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Churn:
    """What happened to a pool's addresses within the window."""

    given: int
    released: int


def full_in(free: int, churn: Churn, window: timedelta = WINDOW) -> timedelta | None:
    """How long the free addresses last if the next hours are like the last one; None when they do not get fewer."""
    net = churn.given - churn.released
    if free <= 0:
        return timedelta()
    return window * free / net if net > 0 else None
