"""Times two ways of doing the same thing in turn, A B A B …, so that a drift of the machine hits both alike."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Comparison(NamedTuple):
    """Seconds of one run, ours against the peer's; the ratio is the median of the pairs' ratios."""

    name: str
    ours: float
    peer: float
    ratio: float
    ours_range: tuple[float, float]
    peer_range: tuple[float, float]
    rounds: int


Timed = Callable[[], float]


def timed(action: Callable[[], object]) -> float:
    """Seconds one call takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def compare(name: str, ours: Timed, peer: Timed, *, rounds: int, warmup: int = 1) -> Comparison:
    """Run both `rounds` times in turn after `warmup` uncounted pairs; each callable returns the seconds it measured."""
    pairs = [(ours(), peer()) for _ in range(rounds + warmup)][warmup:]
    mine, theirs = zip(*pairs, strict=True)
    return Comparison(
        name=name,
        ours=statistics.median(mine),
        peer=statistics.median(theirs),
        ratio=statistics.median(a / b for a, b in pairs),
        ours_range=(min(mine), max(mine)),
        peer_range=(min(theirs), max(theirs)),
        rounds=rounds,
    )
