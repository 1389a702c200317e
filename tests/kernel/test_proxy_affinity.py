"""Session affinity with real packets, in both address families.

The node, its pods and the clients are those of tests/service_node.py. One Service `web`: cluster IP 10 of the plan, external
addresses 1 (externalIP) and 2 (load balancer), node port 30080 at the node's address.
"""

import concurrent.futures
import functools
import json
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from dataplane.nft import values
from dataplane.nft.objects import AddElements, Element
from proxy import layout
from tests import service_node
from tests.address_plan import IPV4, IPV6
from tests.service_node import PATIENT, ServiceNode, ask
from tests.services import endpoint, endpoint_slice, service
from tests.waiting import eventually


@pytest.fixture(scope="module", params=[IPV4, IPV6], ids=str)
def shared(request: pytest.FixtureRequest) -> Iterator[ServiceNode]:
    with service_node.service_node(request.param) as made:
        yield made


@pytest.fixture
def node(shared: ServiceNode) -> Iterator[ServiceNode]:
    yield shared
    shared.clear()


def put(node: ServiceNode, *endpoints: str, external: str = "Cluster", affinity: int | None = 600, **spec) -> None:
    """Endpoints by name; `remote` is on another node."""
    plan = node.plan
    places = {
        name: endpoint(address, node="node2" if name == "remote" else "node1")
        for name, address in {**plan.pods, "remote": plan.remote}.items()
    }
    made = service(
        "web",
        plan.service_ip(10),
        type="LoadBalancer",
        ports=[(80, "http", "TCP", 30080)],
        external_ips=(plan.external(1),),
        ingress=[plan.external(2)],
        external_traffic_policy=external,
        affinity=affinity,
        **spec,
    )
    node.put(made, endpoint_slice("web", [places[name] for name in endpoints]))


def fronts(node: ServiceNode) -> list[tuple[str, int]]:
    plan = node.plan
    return [(plan.service_ip(10), 80), (plan.external(1), 80), (plan.external(2), 80), (plan.node, 30080)]


def meet(node: ServiceNode, client: str, front: int = 0) -> str:
    return node.ask(client, *fronts(node)[front]).split()[0]


def meets(node: ServiceNode, client: str, times: int, front: int = 0) -> set[str]:
    return {meet(node, client, front) for _ in range(times)}


# --- one client, one endpoint


@pytest.mark.parametrize("first", range(4), ids=["cluster IP", "externalIP", "load balancer", "node port"])
def test_a_client_is_kept_at_one_endpoint_whichever_frontend_it_comes_by(node, first):
    put(node, "a", "b", "c")
    meet(node, "client", first)

    assert len({meet(node, "client", front) for front in range(4) for _ in range(2)}) == 1
    assert len(node.nft.elements(layout.AFFINITY)) == 1


def test_clients_are_spread_in_turn(node):
    put(node, "b", "c", "remote")

    assert {meet(node, client) for client in ("client", "a", "outside")} == {"b", "c", "remote"}


def test_a_client_is_kept_for_each_service_port_by_itself(node):
    put(node, "a", "b", "c")
    plan = node.plan
    node.put(service("two", plan.service_ip(11), affinity=60), endpoint_slice("two", [plan.pods[n] for n in "abc"]))
    meets(node, "client", 3)
    answered = {node.ask("client", plan.service_ip(11)).split()[0] for _ in range(3)}

    assert len(answered) == 1
    assert len(node.nft.elements(layout.AFFINITY)) == 2


def test_many_first_connections_at_once_from_everywhere_agree(node):
    """Two CPUs may place two connections of one client at the same moment."""
    put(node, "a", "b", "c")
    for _ in range(5):
        barrier = threading.Barrier(4, timeout=PATIENT)

        def connect(address: str, port: int, barrier: threading.Barrier = barrier) -> set[str]:
            barrier.wait()
            return {ask(address, port).split()[0] for _ in range(5)}

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            races = [pool.submit(node.inside, "client", functools.partial(connect, *front)) for front in fronts(node)]
            answered = set.union(*(race.result() for race in races))

        assert len(answered) == 1
        node.node.run("nft", f"flush map {node.plan.table} affinity")


# --- when it ends


def test_a_client_whose_endpoint_goes_is_kept_at_another_at_once(node):
    put(node, "a", "b", "c")
    first = meet(node, "client")
    put(node, *(name for name in "abc" if name != first))
    answered = meets(node, "client", 6)

    assert len(answered) == 1
    assert first not in answered


def test_no_connection_of_a_kept_client_fails_while_its_endpoints_come_and_go(node):
    """Several at once all the time, so that some find an entry that another is just replacing."""
    put(node, "a", "b", "c")
    stop, failures, answered = threading.Event(), [], []

    def connect(address: str, port: int) -> None:
        while not stop.is_set():
            try:
                answered.append(ask(address, port))
            except OSError as error:
                failures.append(repr(error))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(node.inside, "client", functools.partial(connect, *front)) for front in fronts(node)]
        try:
            for number in range(60):
                put(node, *("ab", "bc", "c", "ca", "b")[number % 5], external=("Cluster", "Local")[number % 2])
                seen = len(answered)
                eventually(lambda seen=seen: len(answered) > seen + 4 or failures)
        finally:
            stop.set()
        for client in clients:
            client.result()

    assert failures == []


def test_a_client_stays_when_endpoints_come_and_the_proxy_restarts(node):
    put(node, "a")
    meet(node, "client")
    put(node, "a", "b", "c")
    node.restart()

    assert meets(node, "client", 6) == {"a"}


def test_a_client_comes_to_a_set_without_its_endpoint_and_is_kept_within_that(node):
    """By the cluster IP it was kept at a pod of another node; the load balancer leads to this node's pods only."""
    put(node, "remote", external="Local")
    assert meets(node, "outside", 2) == {"remote"}
    put(node, "remote", "a", "b", external="Local")
    assert meets(node, "outside", 2) == {"remote"}
    here = meets(node, "outside", 4, front=2)

    assert here in ({"a"}, {"b"})
    assert meets(node, "outside", 4, front=0) == here


def test_a_client_kept_within_the_narrower_set_is_kept_in_the_wider_too(node):
    put(node, "remote", "a", "b", external="Local")
    here = meets(node, "outside", 2, front=3)

    assert meets(node, "outside", 6, front=0) == here


def test_an_endpoint_that_shuts_down_keeps_nobody_where_others_serve(node):
    """It is the last one on this node, so the load balancer still leads to it; the cluster IP does not."""
    plan = node.plan
    leaving = endpoint(plan.pods["a"], ready=False, serving=True, terminating=True)
    made = {
        "type": "LoadBalancer",
        "ingress": [plan.external(2)],
        "external_traffic_policy": "Local",
        "affinity": 600,
    }
    slices = endpoint_slice("web", [leaving, endpoint(plan.remote, node="node2")])
    node.put(service("web", plan.service_ip(10), **made), slices)

    assert node.ask("outside", plan.external(2)).startswith("a ")
    assert node.ask("outside", plan.service_ip(10)).startswith("remote ")
    assert node.ask("outside", plan.external(2)).startswith("a ")


# --- the timeout


def seconds_left(node: ServiceNode) -> float:
    """How long the only client is still remembered."""
    listed = node.node.run("nft", "-j", f"list map {node.plan.table} affinity")
    (((remembered, _),),) = (found["map"]["elem"] for found in json.loads(listed)["nftables"] if "map" in found)
    return remembered["elem"]["expires"]


def test_a_changed_timeout_holds_from_the_clients_next_connection(node):
    put(node, "a", "b", affinity=600)
    first = meet(node, "client")
    put(node, "a", "b", affinity=60)

    assert meet(node, "client") == first
    assert seconds_left(node) <= 60


def end(node: ServiceNode) -> tuple[float, float]:
    """Between which moments the only client is forgotten: the listing takes its time and counts whole seconds."""
    began = time.monotonic()
    left = seconds_left(node)
    return began + left, time.monotonic() + left + 1


def test_each_new_connection_restarts_the_timeout(node):
    put(node, "a", "b", affinity=600)
    meet(node, "client")
    _, latest = end(node)

    def is_later() -> bool:
        meet(node, "client")
        return end(node)[0] > latest

    eventually(is_later)


# --- more clients than 16 bits can count


def clients(node: ServiceNode, count: int) -> list[bytes]:
    """The keys of so many clients in an address range of their own."""
    base = ip_address("172.16.0.0" if node.plan.family == "IPv4" else "fd00:172:16::")
    return [(base + number).packed[-12:] for number in range(count)]


def test_more_than_65535_clients_are_remembered(node):
    put(node, "a", "b", "c")
    first = meet(node, "client")
    (kept,) = node.nft.elements(layout.AFFINITY)
    others = tuple(Element(client + kept.key[-4:], kept.value, timeout=600_000) for client in clients(node, 66_000))
    node.nft.commit([AddElements(layout.AFFINITY, others)])
    late = meet(node, "outside")

    assert len(node.nft.elements(layout.AFFINITY)) == 66_002
    assert meets(node, "outside", 4) == {late}
    assert meets(node, "client", 4) == {first}


def test_clients_beyond_the_maps_size_are_served_in_turn(node):
    put(node, "a", "b")
    table = node.plan.table
    before, affinity, after = node.node.run("nft", f"list table {table}").partition("map affinity {")
    listed = before + affinity + after.replace("size 1048576", "size 1", 1)
    node.node.run("nft", "-f", "-", stdin=f"delete table {table}\n{listed}")
    try:
        first = meet(node, "client")

        assert meets(node, "outside", 4) == {"a", "b"}
        assert meets(node, "client", 4) == {first}
    finally:
        node.nft.delete_table()
        node.restart()


def test_the_listing_loads_back_with_clients_in_it(node):
    put(node, "a", "b", "c", external="Local")
    for client in ("client", "outside", "a"):
        meet(node, client)
    listed = node.node.run("nft", "list", "ruleset")

    node.node.run("nft", "-c", "-f", "-", stdin=listed)
    assert f"{layout.port_number(values.mark_number(node.nft.elements(layout.AFFINITY)[0].value)):#010x}" in listed


def test_clients_stay_when_the_table_is_replaced(node):
    put(node, "a", "b", "c")
    first = {client: meet(node, client) for client in ("client", "outside", "a")}
    node.node.run("nft", f"add rule {node.plan.table} refuse accept")
    node.restart()

    assert {client: meet(node, client) for client in first} == first
