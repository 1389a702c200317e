"""Times two ways of doing the same thing in turn, A B A B …, so that a drift of the machine hits both alike."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Comparison(NamedTuple):
    """What one run takes, ours against the peer's, in seconds unless `unit` says otherwise."""

    name: str
    ours: float
    peer: float
    ratio: float
    ours_range: tuple[float, float]
    peer_range: tuple[float, float]
    rounds: int
    unit: str = "s"


Timed = Callable[[], float]


def timed(action: Callable[[], object]) -> float:
    """Seconds one call takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def compare(name: str, ours: Timed, peer: Timed, *, rounds: int, warmup: int = 1, quantile: float = 0.5) -> Comparison:
    """Run both `rounds` times in turn after `warmup` uncounted pairs; each callable returns the seconds it measured.

    The ratio is the median of the pairs' ratios, or that of the two quantiles.
    """
    pairs = [(ours(), peer()) for _ in range(rounds + warmup)][warmup:]
    mine, theirs = zip(*pairs, strict=True)
    return Comparison(
        name=name,
        ours=_at(quantile, mine),
        peer=_at(quantile, theirs),
        ratio=statistics.median(a / b for a, b in pairs)
        if quantile == 0.5
        else _at(quantile, mine) / _at(quantile, theirs),
        ours_range=(min(mine), max(mine)),
        peer_range=(min(theirs), max(theirs)),
        rounds=rounds,
    )


def _at(quantile: float, values: Sequence[float]) -> float:
    if quantile == 0.5:
        return statistics.median(values)
    return statistics.quantiles(values, n=100)[round(quantile * 100) - 1]
