"""A connection's first packet: what finding the Service costs, however many there are; and finding the client's endpoint.

Timed is connect() in the namespace where the rules are: SYN, translation, SYN-ACK, all on loopback. Every number holds the
same cost of the system call and of both ends' TCP, so the number without any rules stands beside it. Batches of the two
layouts take turns.
"""

import functools
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence

from tests import namespaces
from tests.bench import baseline, cluster, proxy_node
from tests.bench.cluster import Shape
from tests.bench.figures import Figure, quantile
from tests.namespaces import Namespace

PART = "packets"
AFFINITY = "affinity"
ENDPOINT_COUNTS = (2, 10, 100, 1000)
_BATCHES = 10
_BATCH = 300


def first_packets(shape: Shape, *, with_peer: bool) -> Iterator[Figure]:
    """How long a connection to a random Service takes to be established."""
    draw = random.Random(shape.services)
    addresses = [str(cluster.cluster_ip(draw.randrange(shape.services))) for _ in range(_BATCH)]
    direct = [str(cluster.endpoints(draw.randrange(shape.services), shape.endpoints)[0].address) for _ in range(_BATCH)]
    with proxy_node.proxy_node(shape, answers=False) as node, namespaces.namespace("peer") as other:
        node.start()
        node.await_round()
        places: dict[str, Callable[[], list[float]]] = {
            "ours": functools.partial(_connect_times, node.place, addresses, 80),
            "direct": functools.partial(_connect_times, node.place, direct, 8080),
        }
        if with_peer:
            proxy_node.route(other)
            other.run("nft", "-f", "-", stdin=baseline.ruleset(shape.services, shape.endpoints), timeout=1200)
            places["peer"] = functools.partial(_connect_times, other, addresses, 80)
        times = _in_turn(places)
    for share in (0.5, 0.99):
        values = {name: quantile(found, share) * 1e6 for name, found in times.items()}
        what = f"first packet of a connection, p{share * 100:.0f}"
        yield Figure(PART, what, shape.services, values["ours"], "µs", values.get("peer"))
        yield Figure(PART, f"without any Service, p{share * 100:.0f}", shape.services, values["direct"], "µs")


def affinity(*, with_peer: bool) -> Iterator[Figure]:
    """How long a connection takes whose client is known, to a Service with more and more endpoints."""
    for count in ENDPOINT_COUNTS:
        with proxy_node.proxy_node(Shape(1, count, affinity=1.0), answers=False) as node:
            node.start()
            node.await_round()
            addresses = [str(cluster.cluster_ip(0))] * _BATCH
            places: dict[str, Callable[[], list[float]]] = {
                "ours": functools.partial(_connect_times, node.place, addresses, 80)
            }
            with namespaces.namespace("peer") as other:
                if with_peer:
                    proxy_node.route(other)
                    other.run("nft", "-f", "-", stdin=baseline.with_affinity(count))
                    places["peer"] = functools.partial(_connect_times, other, addresses, 80)
                times = _in_turn(places)
        values = {name: quantile(found, 0.5) * 1e6 for name, found in times.items()}
        what = f"known client, Service of {count:,} endpoints, p50"
        yield Figure(AFFINITY, what, 1, values["ours"], "µs", values.get("peer"))


def _in_turn(places: dict[str, Callable[[], list[float]]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in places}
    for batch in range(_BATCHES + 1):
        for name, measure in places.items():
            found = measure()
            times[name] += found if batch else []  # the first one warms up
    return times


def _connect_times(place: Namespace, addresses: Sequence[str], port: int) -> list[float]:
    return place.call(lambda: list(_connects(addresses, port)))


def _connects(addresses: Sequence[str], port: int) -> Iterator[float]:
    # Nobody accepts: the kernel answers for the listener, and no other thread takes part.
    with proxy_node.listen():
        for address in addresses:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
                client.settimeout(3)
                began = time.perf_counter()
                client.connect((address, port))
                yield time.perf_counter() - began
