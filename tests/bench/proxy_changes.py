"""Changes while Services are served: how soon one holds, and what many cost.

From the event's arrival in the proxy to the kernel's acknowledgement, and from the write to the API until a client's
connection reaches the new endpoint. The peer for one change is stock nft rewriting that Service's one rule in kube-proxy's
layout, without any process that hears of the change first.
"""

import time
from collections.abc import Callable, Iterator

from tests import namespaces
from tests.bench import baseline, cluster
from tests.bench.cluster import EndpointAddress, Shape
from tests.bench.figures import Figure, quantile
from tests.bench.proxy_node import Mark, ProxyNode, proxy_node
from tests.bench.timing import timed

PART = "change"
CHANGES = 200
_PAUSE = 0.03  # between single changes: each is to be alone
_SLICE = 100  # endpoints of one EndpointSlice, as the controller makes them
_ROLLING_ENDPOINTS = 1000
_RATE = 100.0


def measure(shape: Shape, *, with_peer: bool, seconds: float) -> Iterator[Figure]:
    with proxy_node(shape) as node:
        node.start()
        node.await_round()
        time.sleep(1)  # what is planned for a second after a start
        yield from _single(node, peer=_rewrite(shape) if with_peer else None)
        yield from _rolling(node, seconds)
        yield from _churn(node, seconds)


def _single(node: ProxyNode, peer: float | None) -> Iterator[Figure]:
    """One endpoint after the other is replaced."""
    began = time.monotonic()
    connected = [_until_connected(node, change) for change in range(CHANGES)]
    acknowledged = list(_event_to_commit(node.marks(), began))
    goals = ("p50 ≤ 10 ms", "p99 ≤ 40 ms") if node.shape.services == 10_000 else ("", "")
    for share, goal in zip((0.5, 0.99), goals, strict=True):
        what = f"one endpoint changed, event → kernel, p{share * 100:.0f}"
        value = quantile(acknowledged, share) * 1000
        yield Figure(PART, what, node.shape.services, value, "ms", peer if share == 0.5 else None, goal)
    for share in (0.5, 0.99):
        what = f"API write → connection at the new endpoint, p{share * 100:.0f}"
        yield Figure(PART, what, node.shape.services, quantile(connected, share) * 1000, "ms")


def _until_connected(node: ProxyNode, change: int) -> float:
    service = change * 97 % node.shape.services
    *stay, last = cluster.endpoints(service, node.shape.endpoints)
    moved = last._replace(address=last.address + cluster.EXTRA_ENDPOINTS + change)
    began = time.monotonic()
    node.write_endpoints(service, [*stay, moved])
    while node.ask(str(cluster.cluster_ip(service))) != str(moved.address):
        if time.monotonic() - began > 10:
            raise RuntimeError(f"Service {service} never led to {moved.address}")
    ended = time.monotonic()
    time.sleep(_PAUSE)
    return ended - began


def _event_to_commit(marks: list[Mark], after: float) -> Iterator[float]:
    event: float | None = None
    for mark in marks:
        if mark.what == "event" and mark.at > after:
            event = mark.at
        elif mark.what == "commit" and event is not None:
            yield mark.at - event
            event = None


def _rewrite(shape: Shape) -> float:
    """Milliseconds of the median of five."""
    with namespaces.namespace("bench") as place:
        place.run("nft", "-f", "-", stdin=baseline.ruleset(shape.services, shape.endpoints), timeout=1200)
        rewrite = baseline.rewrite(7, shape.endpoints)
        return quantile([timed(lambda: place.run("nft", "-f", "-", stdin=rewrite)) for _ in range(5)], 0.5) * 1000


def _rolling(node: ProxyNode, seconds: float) -> Iterator[Figure]:
    """A Service of 1,000 endpoints gets new ones, 100 a second."""
    first = cluster.FIRST_ENDPOINT[4] + 2 * cluster.EXTRA_ENDPOINTS
    addresses = [EndpointAddress(first + number, 8080) for number in range(_ROLLING_ENDPOINTS)]
    for part in range(_ROLLING_ENDPOINTS // _SLICE):
        node.write_endpoints(0, addresses[part * _SLICE : (part + 1) * _SLICE], part=part)
    time.sleep(2)

    def change(number: int) -> None:
        index = number % _ROLLING_ENDPOINTS
        addresses[index] = addresses[index]._replace(address=first + _ROLLING_ENDPOINTS + number)
        part = index // _SLICE
        node.write_endpoints(0, addresses[part * _SLICE : (part + 1) * _SLICE], part=part)

    cpu, late = _paced(node, change, seconds, _RATE)
    yield Figure(
        PART, "rolling update, 100 endpoints/s of 1,000: CPU", node.shape.services, cpu, "% of a core", goal="< 50"
    )
    yield Figure(PART, "rolling update: last change behind by", node.shape.services, late * 1000, "ms")


def _churn(node: ProxyNode, seconds: float) -> Iterator[Figure]:
    """Endpoints of all Services change, as fast as the API takes them."""

    def change(number: int) -> None:
        service = 1 + number * 97 % (node.shape.services - 1)
        *stay, last = cluster.endpoints(service, node.shape.endpoints)
        shift = 3 * cluster.EXTRA_ENDPOINTS + number % 1_000_000
        node.write_endpoints(service, [*stay, last._replace(address=last.address + shift)])

    _paced(node, change, seconds / 2, 500.0)
    before = node.usage().rss
    cpu, late = _paced(node, change, seconds * 2, 500.0)
    yield Figure(PART, "churn, 500 Services/s: CPU", node.shape.services, cpu, "% of a core")
    yield Figure(PART, "churn: last change behind by", node.shape.services, late * 1000, "ms")
    yield Figure(PART, "churn: memory grown by", node.shape.services, node.usage().rss - before, "MB", goal="0")


def _paced(node: ProxyNode, change: Callable[[int], None], seconds: float, rate: float) -> tuple[float, float]:
    """Make changes at a rate; the proxy's CPU in percent, and how long after the last one the table was up to date."""
    began, cpu = time.monotonic(), node.usage().cpu
    for number in range(int(seconds * rate)):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        change(number)
    ended = time.monotonic()
    used = (node.usage().cpu - cpu) / (ended - began) * 100
    done = node.await_quiet(after=ended)
    return used, max(0.0, done - ended)
