"""Nodes that fall silent and come back: what is said of them, and what becomes of their endpoints and pods."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from api import controllers, resources
from api.controllers.node_lifecycle import Patience, tolerated_seconds
from api.registry import Options, Registry
from api.resources.lease import NODE_NAMESPACE
from api.store.sqlite import SqliteStore
from kube.errors import NotFound
from kube.resources import ENDPOINT_SLICES, LEASES, NODES, PODS, SERVICES
from tests.waiting import eventually

# Address plan: nodes n1 and n2; pods p1 10.244.0.1 on n1 and p2 10.244.0.2 on n2.
CLUSTER, VIPS = IPv4Network("10.244.0.0/16"), IPv4Network("10.96.0.0/16")
STATUS = Options(subresource="status")
READY = {"type": "Ready", "status": "True", "reason": "PodwireReady"}
GRACE = 0.5


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "store.db")
    yield opened
    opened.close()


@contextlib.contextmanager
def serving(built: Registry, eviction: float) -> Iterator[Registry]:
    stop = threading.Event()
    patience = Patience(grace=GRACE, eviction=eviction)
    threads = controllers.start(built, stop, advertise=("192.0.2.1", 6443), patience=patience)
    try:
        yield built
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


@pytest.fixture
def registry(store: SqliteStore) -> Iterator[Registry]:
    with serving(Registry(store, resources.strategies((CLUSTER,), (VIPS,))), eviction=3600) as built:
        yield built


@pytest.fixture
def impatient(store: SqliteStore) -> Iterator[Registry]:
    with serving(Registry(store, resources.strategies((CLUSTER,), (VIPS,))), eviction=0.1) as built:
        yield built


def add_node(registry: Registry, name: str) -> None:
    registry.create(NODES, None, {"metadata": {"name": name}, "status": {"conditions": [READY]}})


def renew(registry: Registry, name: str, time: str = "2026-01-01T00:00:00Z") -> None:
    spec = {"holderIdentity": name, "renewTime": time}
    try:
        registry.patch(LEASES, NODE_NAMESPACE, name, {"spec": spec})
    except NotFound:
        registry.create(LEASES, NODE_NAMESPACE, {"metadata": {"name": name}, "spec": spec})


class Heart:
    """Beats until it is stopped. On a busy machine it may miss a beat, and then nothing can be said of its node."""

    def __init__(self, registry: Registry, name: str) -> None:
        self._registry, self._name = registry, name
        self._stop = threading.Event()
        self._last = time.monotonic()
        self._has_missed = False

    def beat(self) -> None:
        count = 0
        while not self._stop.wait(GRACE / 10):
            count += 1
            renew(self._registry, self._name, f"2026-01-01T00:00:00.{count:06}Z")
            self._has_missed = self.is_unsteady
            self._last = time.monotonic()

    def stop(self) -> None:
        self._stop.set()

    @property
    def is_unsteady(self) -> bool:
        return self._has_missed or time.monotonic() - self._last > GRACE / 2


@contextlib.contextmanager
def heart(registry: Registry, name: str) -> Iterator[Heart]:
    """A node that lives as long as the block lasts."""
    renew(registry, name)
    beating = Heart(registry, name)
    thread = threading.Thread(target=beating.beat)
    thread.start()
    try:
        yield beating
    finally:
        beating.stop()
        thread.join()


def add_pod(registry: Registry, name: str, node: str, **spec: Any) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": node} | spec
    registry.create(PODS, "default", {"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec})
    status = {"phase": "Running", "podIP": f"10.244.0.{name[-1]}", "conditions": [READY]}
    registry.patch(PODS, "default", name, {"status": status}, STATUS)


def add_service(registry: Registry) -> None:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    registry.create(SERVICES, "default", {"metadata": {"name": "web"}, "spec": spec})


def ready(registry: Registry, name: str) -> dict[str, str]:
    conditions = registry.get(NODES, None, name)["status"].get("conditions", [])
    return next(each for each in conditions if each["type"] == "Ready")


def is_lost(registry: Registry, name: str = "n1") -> bool:
    return ready(registry, name)["status"] == "Unknown"


def serving_pods(registry: Registry) -> list[str]:
    return sorted(
        each["targetRef"]["name"]
        for piece in registry.list(ENDPOINT_SLICES, "default")
        for each in piece["endpoints"]
        if each.get("targetRef") and each["conditions"]["ready"]
    )


def serves(registry: Registry, *pods: str, alive: tuple[str, ...]) -> bool:
    """Whether exactly these pods serve. Nodes alive say that they are ready, also after they missed a beat."""
    for name in alive:
        registry.patch(NODES, None, name, {"status": {"conditions": [READY]}}, STATUS)
    return serving_pods(registry) == list(pods)


def is_going(registry: Registry, pod: str) -> bool:
    return "deletionTimestamp" in registry.get(PODS, "default", pod)["metadata"]


def holds(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition stays true for so long."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: not condition(), within=seconds)
        return False
    return True


def test_a_silent_node_is_not_ready_and_says_why(registry):
    add_node(registry, "n1")
    renew(registry, "n1")
    eventually(lambda: is_lost(registry))
    assert ready(registry, "n1")["reason"] == "NodeStatusUnknown"
    assert "has not renewed its Lease kube-node-lease/n1" in ready(registry, "n1")["message"]


def test_a_node_that_renews_stays_ready(registry):
    add_node(registry, "n1")
    with heart(registry, "n1") as beating:
        assert holds(lambda: not is_lost(registry) or beating.is_unsteady, GRACE * 4)


def test_a_lease_that_is_written_without_being_renewed_is_no_sign_of_life(registry):
    add_node(registry, "n1")
    renew(registry, "n1")
    registry.patch(LEASES, NODE_NAMESPACE, "n1", {"metadata": {"labels": {"a": "b"}}})
    eventually(lambda: is_lost(registry))


def test_a_node_that_never_had_a_lease_is_left_alone(registry):
    add_node(registry, "n1")
    assert holds(lambda: not is_lost(registry), GRACE * 3)


def test_the_endpoints_of_a_lost_node_leave_and_come_back_with_it(registry):
    add_node(registry, "n1")
    add_node(registry, "n2")
    add_service(registry)
    with heart(registry, "n1"), heart(registry, "n2"):
        add_pod(registry, "p1", "n1")
        add_pod(registry, "p2", "n2")
        eventually(lambda: serves(registry, "p1", "p2", alive=("n1", "n2")))
    with heart(registry, "n2"):
        eventually(lambda: serves(registry, "p2", alive=("n2",)))
        with heart(registry, "n1"):
            eventually(lambda: serves(registry, "p1", "p2", alive=("n1", "n2")))


def test_a_lost_node_that_is_deleted_serves_no_more_on_its_way(registry):
    add_node(registry, "n1")
    add_service(registry)
    with heart(registry, "n1"):
        add_pod(registry, "p1", "n1")
        eventually(lambda: serves(registry, "p1", alive=("n1",)))
    eventually(lambda: serving_pods(registry) == [])
    seen = []
    registry.topic(ENDPOINT_SLICES).listen(lambda: seen.append(serving_pods(registry)))
    registry.delete(NODES, None, "n1")
    eventually(lambda: registry.list(PODS) == [])
    eventually(lambda: seen)
    assert set(map(tuple, seen)) == {()}


def test_pods_of_a_lost_node_are_given_up_after_the_longer_time(impatient):
    add_node(impatient, "n1")
    add_node(impatient, "n2")
    with heart(impatient, "n2") as beating:
        renew(impatient, "n1")
        add_pod(impatient, "p1", "n1")
        add_pod(impatient, "p2", "n2")
        eventually(lambda: is_going(impatient, "p1"))
        assert not is_going(impatient, "p2") or beating.is_unsteady


def test_a_pod_that_tolerates_it_stays(impatient):
    add_node(impatient, "n1")
    add_node(impatient, "n2")
    with heart(impatient, "n2"):
        renew(impatient, "n1")
        add_pod(impatient, "p1", "n1")
        add_pod(impatient, "p3", "n1", tolerations=[{"operator": "Exists"}])
        eventually(lambda: is_going(impatient, "p1"))
        assert not is_going(impatient, "p3")


def test_when_every_node_is_silent_no_pod_is_given_up(impatient):
    add_node(impatient, "n1")
    renew(impatient, "n1")
    add_pod(impatient, "p1", "n1")
    eventually(lambda: is_lost(impatient))
    assert holds(lambda: not is_going(impatient, "p1"), GRACE * 3)


def test_when_another_node_is_heard_again_the_pods_of_a_silent_one_are_given_up(impatient):
    for name in ("n2", "n1"):  # when n1 is found silent, n2 is already
        add_node(impatient, name)
        renew(impatient, name)
    add_pod(impatient, "p1", "n1")
    eventually(lambda: is_lost(impatient, "n1") and is_lost(impatient, "n2"))
    with heart(impatient, "n2"):
        eventually(lambda: is_going(impatient, "p1"))


def test_the_lease_of_a_deleted_node_goes(registry):
    add_node(registry, "n1")
    renew(registry, "n1")
    registry.delete(NODES, None, "n1")
    eventually(lambda: registry.list(LEASES) == [])


def test_a_restarted_server_gives_every_node_the_whole_time(store):
    with serving(Registry(store, resources.strategies((CLUSTER,), (VIPS,))), eviction=3600) as first:
        add_node(first, "n1")
        renew(first, "n1")
    with serving(Registry(store, resources.strategies((CLUSTER,), (VIPS,))), eviction=3600) as second:
        assert not is_lost(second)
        with heart(second, "n1") as beating:
            assert holds(lambda: not is_lost(second) or beating.is_unsteady, GRACE * 3)


def test_nodes_get_the_podcidr_of_a_new_family_after_a_restart(store):
    with serving(Registry(store, resources.strategies((CLUSTER,), (VIPS,))), eviction=3600) as first:
        add_node(first, "n1")
    both = (CLUSTER, IPv6Network("fd00:10:244::/56"))
    with serving(Registry(store, resources.strategies(both, (VIPS,))), eviction=3600) as second:
        eventually(lambda: len(second.get(NODES, None, "n1")["spec"]["podCIDRs"]) == 2)


@pytest.mark.parametrize(
    ("tolerations", "seconds"),
    [
        ([], 300),
        ([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 5}], 5),
        ([{"key": "node.kubernetes.io/unreachable", "operator": "Exists"}], None),
        ([{"operator": "Exists", "effect": "NoSchedule"}], 300),
        ([{"key": "other", "operator": "Exists"}], 300),
        ([{"operator": "Exists", "tolerationSeconds": -1}], 0),
    ],
)
def test_tolerations_say_how_long_a_pod_stays(tolerations, seconds):
    assert tolerated_seconds({"spec": {"tolerations": tolerations}}, 300) == seconds
