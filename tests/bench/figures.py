"""What the proxy part of the bench reports: one number each, beside the peer's where there is one, and what it must be."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table


class Figure(NamedTuple):
    """A number of one cluster size. `peer` is the same for kube-proxy's rule layout and stock nft; `goal` is a bound."""

    part: str
    what: str
    services: int
    value: float
    unit: str
    peer: float | None = None
    goal: str = ""

    @property
    def ratio(self) -> float | None:
        return None if not self.peer else self.value / self.peer

    def __str__(self) -> str:
        beside = f", peer {shown(self.peer)} {self.unit}" if self.peer is not None else ""
        return f"{self.what}, {self.services:,} Services: {shown(self.value)} {self.unit}{beside}"


def table(figures: Sequence[Figure]) -> Table:
    drawn = Table("what", "Services", "podwire", "peer", "ratio", "unit", "goal")
    for figure in figures:
        drawn.add_row(
            figure.what,
            f"{figure.services:,}",
            shown(figure.value),
            "" if figure.peer is None else shown(figure.peer),
            "" if figure.ratio is None else f"{figure.ratio:.3g}",
            figure.unit,
            figure.goal,
        )
    return drawn


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
