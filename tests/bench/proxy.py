"""The proxy part of the bench: which sizes are measured in which parts."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tests.bench import proxy_changes, proxy_packets, proxy_start
from tests.bench.cluster import Shape
from tests.bench.figures import Figure

PARTS = (proxy_start.PART, proxy_changes.PART, proxy_packets.PART, proxy_packets.AFFINITY)


class Plan(NamedTuple):
    """What to measure. The peer takes part up to `peer_max` Services: its load grows with their square."""

    shapes: Sequence[Shape]
    parts: Sequence[str] = PARTS
    peer_max: int = 10_000
    seconds: float = 10.0

    def has_peer(self, shape: Shape) -> bool:
        return shape.services <= self.peer_max


def measure(plan: Plan) -> Iterator[Figure]:
    by_part: dict[str, Callable[[Shape], Iterator[Figure]]] = {
        proxy_start.PART: lambda shape: proxy_start.measure(shape, with_peer=plan.has_peer(shape)),
        proxy_changes.PART: lambda shape: proxy_changes.measure(
            shape, with_peer=plan.has_peer(shape), seconds=plan.seconds
        ),
        proxy_packets.PART: lambda shape: proxy_packets.first_packets(shape, with_peer=plan.has_peer(shape)),
    }
    for part in (part for part in by_part if part in plan.parts):
        for shape in plan.shapes:
            yield from by_part[part](shape)
    if proxy_packets.AFFINITY in plan.parts:
        yield from proxy_packets.affinity(with_peer=plan.peer_max > 0)
