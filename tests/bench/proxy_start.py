"""From nothing to all rules live, and back there after a restart and after somebody flushed the ruleset.

A cold start is counted from the start of the process, with its imports, the lists from the API and their decoding, to the
kernel's acknowledgement of the last transaction. The peer is stock `nft -f` loading kube-proxy's layout of the same
cluster, from finished text: no process of it reads an API or renders anything.
"""

import signal
import time
from collections.abc import Iterator

from tests import namespaces
from tests.bench import baseline, cluster
from tests.bench.cluster import Shape
from tests.bench.figures import Figure
from tests.bench.proxy_node import ProxyNode, proxy_node
from tests.bench.timing import timed

PART = "start"
_SAMPLES = 50
_IDLE_SECONDS = 5.0


def measure(shape: Shape, *, with_peer: bool) -> Iterator[Figure]:
    peer = baseline_load(shape) if with_peer else None
    with proxy_node(shape) as node:
        began = node.start()
        yield _figure(shape, "cold start", node.await_round() - began, "s", peer=peer, goal=_COLD.get(shape.services))
        yield _figure(shape, "CPU of the cold start", node.usage().cpu, "s")
        _check(node)
        yield from _at_rest(node)
        node.stop(signal.SIGKILL)
        yield from _restart(node)
        yield from _flush(node)
        yield from _stock_nft(node)


_COLD = {10_000: "≤ 3 s and ≤ 1/10 of the peer", 45_000: "≤ 15 s"}


def _figure(
    shape: Shape, what: str, value: float, unit: str, peer: float | None = None, goal: str | None = ""
) -> Figure:
    return Figure(PART, what, shape.services, value, unit, peer, goal or "")


def _at_rest(node: ProxyNode) -> Iterator[Figure]:
    before = node.usage()
    time.sleep(_IDLE_SECONDS)
    after = node.usage()
    goal = "≤ 200 MB" if node.shape.services == 10_000 else ""
    yield _figure(node.shape, "memory at rest", after.rss, "MB", goal=goal)
    yield _figure(node.shape, "memory at most", after.peak, "MB")
    yield _figure(node.shape, "CPU at rest", (after.cpu - before.cpu) / _IDLE_SECONDS * 100, "% of a core")


def _restart(node: ProxyNode) -> Iterator[Figure]:
    """Killed and started again, with nothing changed meanwhile."""
    began = node.start()
    goal = "≤ 2 s" if node.shape.services == 10_000 else ""
    yield _figure(node.shape, "restart with nothing changed", node.await_round() - began, "s", goal=goal)
    writes = sum(mark.what in {"commit", "load"} for mark in node.marks())
    yield _figure(node.shape, "writes of that restart", writes, "transactions", goal="0")
    _check(node)


def _flush(node: ProxyNode) -> Iterator[Figure]:
    """Somebody runs `nft flush ruleset`."""
    flushed = time.monotonic()
    node.place.run("nft", "flush", "ruleset")
    whole = node.await_round(after=flushed)
    goal = "≤ 2 s" if node.shape.services == 10_000 else ""
    yield _figure(node.shape, "whole again after nft flush ruleset", whole - flushed, "s", goal=goal)
    _check(node)


def _stock_nft(node: ProxyNode) -> Iterator[Figure]:
    """What people debug with reads the table, and its listing loads."""
    listing = ""

    def list_table() -> None:
        nonlocal listing
        listing = node.place.run("nft", "list", "table", "ip", "podwire-proxy")

    yield _figure(node.shape, "listed by stock nft", timed(list_table), "s")
    with namespaces.namespace("bench") as place:
        seconds = timed(lambda: place.run("nft", "-f", "-", stdin=listing))
        yield _figure(node.shape, "that listing loaded by stock nft", seconds, "s")


def baseline_load(shape: Shape) -> float:
    """How long stock nft loads kube-proxy's layout of the same Services and endpoints."""
    ruleset = baseline.ruleset(shape.services, shape.endpoints)
    with namespaces.namespace("bench") as place:
        return timed(lambda: place.run("nft", "-f", "-", stdin=ruleset, timeout=1200))


def _check(node: ProxyNode) -> None:
    """A sample of Services answers, each with one of its own endpoints."""
    shape = node.shape
    for number in range(0, shape.services, max(1, shape.services // _SAMPLES)):
        own = {str(entry.address) for entry in cluster.endpoints(number, shape.endpoints)}
        answer = node.ask(str(cluster.cluster_ip(number)), timeout=1.0)
        if answer not in own:
            raise RuntimeError(f"Service {number} was answered by {answer or 'nobody'}")
