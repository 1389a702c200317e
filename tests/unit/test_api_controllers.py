"""The controllers over a real registry: what a user does, and what is true a moment later."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from api import controllers, resources
from api.controllers import carrying_out
from api.controllers.controller import sync_each
from api.controllers.mirror import Mirror, Notice
from api.registry import Options, Registry
from api.store.sqlite import SqliteStore
from kube.control import SyncFailed
from kube.errors import ApiError, Conflict, NotFound
from kube.resources import ENDPOINT_SLICES, EVENTS, NAMESPACES, NODES, PODS, SERVICES
from tests.waiting import eventually

# Address plan: nodes get 10.244.N.0/24; the API server says it is at 192.168.7.1:6443.
CLUSTER, VIPS = IPv4Network("10.244.0.0/16"), IPv4Network("10.96.0.0/16")
STATUS = Options(subresource="status")
READY = {"type": "Ready", "status": "True"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "store.db")
    yield opened
    opened.close()


@contextlib.contextmanager
def running(registry: Registry, address: str = "192.168.7.1") -> Iterator[None]:
    """Controllers at work; all of their threads end with the block."""
    stop = threading.Event()
    threads = controllers.start(registry, stop, advertise=(address, 6443))
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert [thread.name for thread in threads if thread.is_alive()] == []


@pytest.fixture
def registry(store: SqliteStore) -> Iterator[Registry]:
    built = Registry(store, resources.strategies((CLUSTER,), (VIPS,)))
    with running(built):
        yield built


def everything(registry: Registry) -> list[dict[str, Any]]:
    return [obj for kind in (NAMESPACES, NODES, PODS, SERVICES, ENDPOINT_SLICES) for obj in registry.list(kind)]


def add_node(registry: Registry, name: str) -> None:
    registry.create(NODES, None, {"metadata": {"name": name}, "status": {"conditions": [READY]}})


def add_service(registry: Registry, name: str = "web", namespace: str = "default", **spec: Any) -> None:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]} | spec
    registry.create(SERVICES, namespace, {"metadata": {"name": name}, "spec": spec})


def add_pod(registry: Registry, name: str, namespace: str = "default", **spec: Any) -> None:
    spec = {"containers": [{"name": "c", "image": "podwire/echo"}]} | spec
    registry.create(PODS, namespace, {"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec})


def run_pod(registry: Registry, name: str, address: str, namespace: str = "default") -> None:
    status = {"phase": "Running", "podIP": address, "conditions": [READY]}
    registry.patch(PODS, namespace, name, {"status": status}, STATUS)


def endpoints(registry: Registry, service: str = "web", namespace: str = "default") -> dict[str, tuple[bool, ...]]:
    return {
        each["targetRef"]["name"]: tuple(each["conditions"].values())
        for piece in registry.list(ENDPOINT_SLICES, namespace)
        if piece["metadata"]["labels"]["kubernetes.io/service-name"] == service
        for each in piece["endpoints"]
    }


def node_of(registry: Registry, name: str) -> str:
    return str(registry.get(PODS, "default", name)["spec"].get("nodeName", ""))


def is_gone(registry: Registry, *where: Any) -> bool:
    try:
        registry.find(*where)
    except NotFound:
        return True
    return False


def three_endpoints(registry: Registry) -> None:
    add_node(registry, "n1")
    add_service(registry)
    for number in range(3):
        add_pod(registry, f"p{number}")
        eventually(lambda name=f"p{number}": node_of(registry, name))
        run_pod(registry, f"p{number}", f"10.244.0.{number + 2}")
    eventually(lambda: len(endpoints(registry)) == 3)


def test_the_api_server_is_a_service_from_the_start(registry):
    assert registry.get(SERVICES, "default", "kubernetes")["spec"]["clusterIP"] == "10.96.0.1"
    piece = registry.get(ENDPOINT_SLICES, "default", "kubernetes")
    assert (piece["endpoints"][0]["addresses"], piece["ports"][0]["port"]) == (["192.168.7.1"], 6443)


@pytest.mark.parametrize("resource", [SERVICES, ENDPOINT_SLICES], ids=["service", "slice"])
def test_the_api_servers_service_comes_back(registry, resource):
    uid = registry.get(resource, "default", "kubernetes")["metadata"]["uid"]
    registry.delete(resource, "default", "kubernetes")
    again = eventually(lambda: not is_gone(registry, resource, "default", "kubernetes"))
    assert again
    assert registry.get(resource, "default", "kubernetes")["metadata"]["uid"] != uid


def test_a_pod_gets_a_node_when_there_is_one(registry):
    add_pod(registry, "p")
    eventually(lambda: registry.get(PODS, "default", "p")["status"].get("conditions"))
    (condition,) = registry.get(PODS, "default", "p")["status"]["conditions"]
    assert condition["message"] == "no nodes available to schedule pods"
    add_node(registry, "n1")
    assert eventually(lambda: node_of(registry, "p")) == "n1"
    eventually(lambda: registry.get(PODS, "default", "p")["status"]["conditions"][0]["status"] == "True")


def test_thirty_pods_at_once_spread_over_three_nodes(registry):
    for name in ("n1", "n2", "n3"):
        add_node(registry, name)
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda number: add_pod(registry, f"p{number}"), range(30)))
    eventually(lambda: all(node_of(registry, f"p{number}") for number in range(30)))
    placed = [node_of(registry, f"p{number}") for number in range(30)]
    assert [placed.count(name) for name in ("n1", "n2", "n3")] == [10, 10, 10]


def test_a_deleted_pod_drains_at_once_and_leaves_at_its_end(registry):
    three_endpoints(registry)
    registry.delete(PODS, "default", "p1")
    eventually(lambda: endpoints(registry)["p1"] == (False, True, True))
    registry.delete(PODS, "default", "p1", 0)
    eventually(lambda: endpoints(registry).keys() == {"p0", "p2"})


def test_a_deleted_pod_stops_being_ready_well_within_100_ms(registry):
    three_endpoints(registry)
    numbers = itertools.count(10)

    def seconds() -> float:
        name = f"p{(number := next(numbers))}"
        add_pod(registry, name)
        run_pod(registry, name, f"10.244.0.{number}")
        eventually(lambda: endpoints(registry).get(name, (False,))[0])
        before = time.monotonic()
        registry.delete(PODS, "default", name)
        eventually(lambda: not endpoints(registry)[name][0], every=0.001)
        return time.monotonic() - before

    # Again and again: once is enough, but not where others have the processor.
    assert eventually(lambda: seconds() < 0.1)


def test_an_unchanged_service_costs_no_write(registry):
    three_endpoints(registry)
    before = registry.list(ENDPOINT_SLICES)
    registry.patch(SERVICES, "default", "web", {"metadata": {"annotations": {"a": "b"}}})
    registry.patch(PODS, "default", "p0", {"metadata": {"annotations": {"a": "b"}}})
    add_service(registry, "later")
    eventually(lambda: len(endpoints(registry, "later")) == 3)
    assert [piece for piece in registry.list(ENDPOINT_SLICES) if piece in before] == before


def test_a_pod_whose_labels_change_moves_between_services(registry):
    three_endpoints(registry)
    add_service(registry, "other", selector={"app": "other"})
    registry.patch(PODS, "default", "p0", {"metadata": {"labels": {"app": "other"}}})
    eventually(lambda: endpoints(registry, "other").keys() == {"p0"})
    eventually(lambda: endpoints(registry).keys() == {"p1", "p2"})


def test_a_new_selector_selects_anew(registry):
    three_endpoints(registry)
    registry.patch(SERVICES, "default", "web", {"spec": {"selector": {"app": "none"}}})
    eventually(lambda: endpoints(registry) == {})


def test_slices_go_with_their_service(registry):
    three_endpoints(registry)
    registry.delete(SERVICES, "default", "web")
    eventually(lambda: [each["metadata"]["name"] for each in registry.list(ENDPOINT_SLICES)] == ["kubernetes"])


def test_a_slice_somebody_deleted_or_spoiled_is_put_right(registry):
    three_endpoints(registry)
    name = next(each["metadata"]["name"] for each in registry.list(ENDPOINT_SLICES) if "web" in str(each["metadata"]))
    registry.patch(ENDPOINT_SLICES, "default", name, {"endpoints": []})
    eventually(lambda: len(endpoints(registry)) == 3)
    registry.delete(ENDPOINT_SLICES, "default", name)
    eventually(lambda: len(endpoints(registry)) == 3)


def test_a_users_own_slice_is_left_alone(registry):
    three_endpoints(registry)
    metadata = {"name": "mine", "labels": {"kubernetes.io/service-name": "web"}}
    endpoint = {"addresses": ["192.0.2.9"], "targetRef": {"kind": "Pod", "name": "x"}, "conditions": {"ready": True}}
    mine = {"metadata": metadata, "addressType": "IPv4", "endpoints": [endpoint]}
    made = registry.create(ENDPOINT_SLICES, "default", mine)
    registry.delete(PODS, "default", "p0", 0)
    eventually(lambda: "p0" not in endpoints(registry))
    assert registry.get(ENDPOINT_SLICES, "default", "mine") == made


def test_slices_are_right_whoever_else_writes_them(registry):
    """Two writers fight over one slice; when one gives up, the other's truth stands."""
    three_endpoints(registry)
    name = next(each["metadata"]["name"] for each in registry.list(ENDPOINT_SLICES) if "web" in str(each["metadata"]))
    for number in range(30):
        registry.patch(ENDPOINT_SLICES, "default", name, {"metadata": {"labels": {"x": str(number)}}})
        run_pod(registry, "p0", f"10.244.0.{number + 10}")
    eventually(lambda: "10.244.0.39" in str(registry.list(ENDPOINT_SLICES)))
    assert len(endpoints(registry)) == 3
    pieces = [each for each in registry.list(ENDPOINT_SLICES) if each["metadata"]["name"] != "kubernetes"]
    assert len(pieces) == 1


def test_two_hundred_services_are_sliced_soon(registry):
    add_node(registry, "n1")
    add_pod(registry, "p0")
    run_pod(registry, "p0", "10.244.0.2")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add_service(registry, f"s{number}"), range(200)))
    eventually(lambda: len(registry.list(ENDPOINT_SLICES)) == 201)
    assert all(endpoints(registry, f"s{number}").keys() == {"p0"} for number in range(0, 200, 40))


def test_pods_go_with_their_node(registry):
    add_node(registry, "n1")
    add_pod(registry, "p")
    eventually(lambda: node_of(registry, "p"))
    registry.delete(NODES, None, "n1")
    eventually(lambda: is_gone(registry, PODS, "default", "p"))


def test_a_pod_may_wait_for_its_node_to_register(registry):
    add_pod(registry, "early", nodeName="n9")
    add_pod(registry, "other")
    add_node(registry, "n1")
    eventually(lambda: node_of(registry, "other"))
    assert node_of(registry, "early") == "n9"


def test_with_a_namespace_goes_all_that_is_in_it(registry):
    add_node(registry, "n1")
    registry.create(NAMESPACES, None, {"metadata": {"name": "x"}})
    add_service(registry, namespace="x")
    add_pod(registry, "p", "x", nodeName="n1")
    about = {"kind": "Pod", "namespace": "x", "name": "p"}
    registry.create(EVENTS, "x", {"metadata": {"name": "e"}, "involvedObject": about})

    registry.delete(NAMESPACES, None, "x")

    eventually(lambda: "deletionTimestamp" in registry.get(PODS, "x", "p")["metadata"])
    eventually(lambda: is_gone(registry, SERVICES, "x", "web"))
    eventually(lambda: is_gone(registry, EVENTS, "x", "e"))
    assert registry.get(NAMESPACES, None, "x")["status"]["phase"] == "Terminating"
    registry.delete(PODS, "x", "p", 0)
    eventually(lambda: is_gone(registry, NAMESPACES, None, "x"))
    assert registry.list(ENDPOINT_SLICES, "x") == []


def test_writers_and_a_dying_namespace_leave_nothing_behind(registry):
    registry.create(NAMESPACES, None, {"metadata": {"name": "x"}})

    def write(number: int) -> None:
        try:
            add_service(registry, f"s{number}", "x")
        except ApiError:
            return  # too late, and told so

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write, number) for number in range(40)]
        registry.delete(NAMESPACES, None, "x")
        for writer in writers:
            writer.result()
    eventually(lambda: is_gone(registry, NAMESPACES, None, "x"))
    assert registry.list(SERVICES, "x") == []
    assert registry.list(ENDPOINT_SLICES, "x") == []


def test_events_are_forgotten_after_an_hour(store):
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    built = Registry(store, resources.strategies((CLUSTER,), (VIPS,)), now=lambda: long_ago)
    built.create(NAMESPACES, None, {"metadata": {"name": "default"}})
    built.create(EVENTS, "default", {"metadata": {"name": "old"}, "involvedObject": {"kind": "Node", "name": "n"}})
    with running(built):
        eventually(lambda: is_gone(built, EVENTS, "default", "old"))


def test_a_restart_rewrites_nothing(store):
    built = Registry(store, resources.strategies((CLUSTER,), (VIPS,)))
    with running(built):
        three_endpoints(built)
    before = everything(built)
    with running(built):
        add_service(built, "last")
        eventually(lambda: len(endpoints(built, "last")) == 3)
    assert [obj for obj in everything(built) if obj in before] == before


def test_a_loopback_address_is_not_told_to_pods(store):
    built = Registry(store, resources.strategies((CLUSTER,), (VIPS,)))
    with running(built, address="127.0.0.1"):
        assert built.get(ENDPOINT_SLICES, "default", "kubernetes")["endpoints"] == []


def test_a_mirror_that_fell_behind_tells_what_it_missed(store):
    built = Registry(store, resources.strategies((CLUSTER,), (VIPS,)))
    mirror, told = Mirror(built, [NAMESPACES]), list[Notice]()
    for name in ("a", "b"):
        built.create(NAMESPACES, None, {"metadata": {"name": name}})
    mirror.catch_up()
    mirror.observe(told.append)
    built.topic(NAMESPACES)._limit = 1  # history as short as it gets
    built.patch(NAMESPACES, None, "a", {"spec": {"finalizers": []}, "metadata": {"labels": {"x": "y"}}})
    built.delete(NAMESPACES, None, "b")
    built.update(NAMESPACES, None, "b", lambda obj: obj | {"spec": {}})
    built.create(NAMESPACES, None, {"metadata": {"name": "c"}})

    mirror.catch_up()

    outcome = {notice.key[1]: notice.new for notice in told}
    assert len(told) == 3, "the difference, not the history"
    assert outcome["b"] is None
    assert outcome["a"]["metadata"]["labels"]["x"] == "y"
    assert mirror.get(NAMESPACES, ("", "b")) is None
    assert mirror.get(NAMESPACES, ("", "c")) is not None


def test_a_defect_in_one_observer_hides_nothing_from_the_others(store):
    built = Registry(store, resources.strategies((CLUSTER,), (VIPS,)))
    mirror, told = Mirror(built, [NAMESPACES]), list[Notice]()

    def defective(notice: Notice) -> None:
        raise KeyError(notice.key)

    mirror.observe(defective)
    mirror.observe(told.append)
    for name in ("a", "b"):
        built.create(NAMESPACES, None, {"metadata": {"name": name}})
    mirror.catch_up()
    assert [notice.key for notice in told] == [("", "a"), ("", "b")]


def test_an_item_that_fails_does_not_keep_the_others_from_their_turn():
    done = []

    def act(number: int) -> None:
        if number % 2:
            raise NotFound(f"{number} is odd")
        done.append(number)

    with pytest.raises(ExceptionGroup, match=r"1 is odd.*; 3 is odd") as failed:
        carrying_out.for_each(range(5), act)
    assert done == [0, 2, 4]
    assert len(failed.value.exceptions) == 2


def test_a_key_that_fails_does_not_keep_the_others_from_their_turn():
    done = []

    def sync(key: str) -> None:
        if key == "bad":
            raise ValueError(key)
        done.append(key)

    with pytest.raises(SyncFailed) as failed:
        sync_each(frozenset({"a", "bad", "b"}), sync)
    assert sorted(done) == ["a", "b"]
    assert failed.value.failures.keys() == {"bad"}


@pytest.mark.parametrize("rivals", [1, 4])
def test_a_plan_that_lost_a_race_is_made_anew(rivals):
    attempts = []

    def attempt() -> bool:
        attempts.append(None)
        if len(attempts) <= rivals:
            raise Conflict("somebody was faster")
        return True

    assert carrying_out.settle(attempt)
    assert len(attempts) == rivals + 1


def test_a_race_lost_again_and_again_is_reported():
    def attempt() -> bool:
        raise Conflict("somebody was faster")

    with pytest.raises(Conflict):
        carrying_out.settle(attempt)
