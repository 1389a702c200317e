"""The CNI plugin, executed as a runtime does and served by an agent, against the reference bridge with host-local."""

from collections.abc import Iterator

from tests import namespaces
from tests.bench.cni_place import Runtime, place
from tests.bench.timing import Comparison, compare
from tests.namespaces import Namespace

TITLE = "CNI calls, one after the other"
ROUNDS = 30


def measure() -> Iterator[Comparison]:
    for masquerade, suffix in ((False, ""), (True, " with ipMasq and a hostPort")):
        with place(masquerade=masquerade) as (ours, peer), namespaces.namespace("pod") as pod:
            yield from _add_and_delete(ours, peer, pod, suffix)
    with place(dual=True) as (ours, peer), namespaces.namespace("pod") as pod:
        yield from _add_and_delete(ours, peer, pod, ", dual stack, 90th percentile", quantile=0.9)
    with place() as (ours, peer):
        ours.chain[0][1]["cniVersion"] = "1.1.0"
        # The reference has no STATUS; its VERSION looks at nothing, so it is what starting it costs.
        yield compare("STATUS (peer: VERSION)", lambda: ours.ask("STATUS"), lambda: peer.ask("VERSION"), rounds=ROUNDS)


def _add_and_delete(
    ours: Runtime, peer: Runtime, pod: Namespace, suffix: str, *, quantile: float = 0.5
) -> Iterator[Comparison]:
    """ADD and DEL in turn: each DEL makes room for the next ADD, so both verbs are timed in one pass."""
    deletions: list[tuple[float, float]] = []

    def add_ours() -> float:
        seconds = ours.add(pod)
        deletions.append((ours.delete(pod), 0.0))
        return seconds

    def add_peer() -> float:
        seconds = peer.add(pod)
        deletions[-1] = (deletions[-1][0], peer.delete(pod))
        return seconds

    yield compare(f"ADD{suffix}", add_ours, add_peer, rounds=ROUNDS, quantile=quantile)
    mine, theirs = zip(*deletions[1:], strict=True)
    yield compare(
        f"DEL{suffix}", iter(mine).__next__, iter(theirs).__next__, rounds=ROUNDS, warmup=0, quantile=quantile
    )
