"""ServiceCIDRs over a real registry: where cluster IPs come from, and when a range may go."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from api import controllers, resources
from api.registry import Registry
from api.resources.service_cidr import ServiceCIDRStrategy
from api.store.sqlite import SqliteStore
from kube.errors import ApiError, Forbidden, Invalid, NotFound
from kube.resources import NAMESPACES, SERVICE_CIDRS, SERVICES
from tests.waiting import eventually

# Address plan: the server's own range has room for one Service beside the API server's; 10.97.0.0/24 is added.
OWN, MORE = IPv4Network("10.96.0.0/30"), "10.97.0.0/24"
CLUSTER = IPv4Network("10.244.0.0/16")
STRATEGY = ServiceCIDRStrategy(service_cidrs=(OWN, IPv6Network("fd00:10:96::/112")))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "store.db")
    yield opened
    opened.close()


@contextlib.contextmanager
def running(built: Registry) -> Iterator[Registry]:
    stop = threading.Event()
    threads = controllers.start(built, stop, advertise=("192.0.2.1", 6443))
    try:
        yield built
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


@pytest.fixture
def registry(store: SqliteStore) -> Iterator[Registry]:
    with running(Registry(store, resources.strategies((CLUSTER,), (OWN,)))) as built:
        yield built


@pytest.fixture
def quiet(store: SqliteStore) -> Registry:
    """Without controllers: nobody lets go of anything."""
    built = Registry(store, resources.strategies((CLUSTER,), (OWN,)))
    built.create(NAMESPACES, None, {"metadata": {"name": "default"}})
    return built


def add(registry: Registry, *cidrs: str, name: str = "more") -> dict[str, Any]:
    return registry.create(SERVICE_CIDRS, None, {"metadata": {"name": name}, "spec": {"cidrs": list(cidrs)}})


def address(registry: Registry, name: str, **spec: Any) -> str:
    body = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]} | spec}
    return registry.create(SERVICES, "default", body)["spec"]["clusterIP"]


def ready(registry: Registry, name: str) -> str:
    conditions = registry.get(SERVICE_CIDRS, None, name)["status"].get("conditions", [])
    return next((each["status"] for each in conditions if each["type"] == "Ready"), "")


def is_gone(registry: Registry, name: str = "more") -> bool:
    try:
        registry.find(SERVICE_CIDRS, None, name)
    except NotFound:
        return True
    return False


def test_the_servers_own_range_is_an_object_from_the_start(registry):
    assert registry.get(SERVICE_CIDRS, None, "kubernetes")["spec"]["cidrs"] == [str(OWN)]
    eventually(lambda: ready(registry, "kubernetes") == "True")


def test_the_servers_own_range_cannot_be_deleted(registry):
    with pytest.raises(Forbidden, match="it is what podwire-api's --service-cidr says"):
        registry.delete(SERVICE_CIDRS, None, "kubernetes")


def test_after_a_restart_with_another_range_the_object_says_that_one(store):
    with running(Registry(store, resources.strategies((CLUSTER,), (OWN,)))):
        pass
    with running(Registry(store, resources.strategies((CLUSTER,), (IPv4Network("10.98.0.0/24"),)))) as registry:
        assert registry.get(SERVICE_CIDRS, None, "kubernetes")["spec"]["cidrs"] == ["10.98.0.0/24"]


def test_a_full_cluster_goes_on_in_an_added_range(quiet):
    assert address(quiet, "a") == "10.96.0.2"
    with pytest.raises(Invalid, match="add a range with a ServiceCIDR object"):
        address(quiet, "b")
    add(quiet, MORE)
    assert address(quiet, "b").startswith("10.97.0.")


def test_an_address_of_an_added_range_can_be_asked_for(quiet):
    add(quiet, MORE)
    assert address(quiet, "b", clusterIP="10.97.0.77") == "10.97.0.77"


def test_the_api_servers_address_is_kept_in_a_range_that_holds_it_too(quiet):
    add(quiet, "10.96.0.0/24")
    with pytest.raises(Invalid, match="it is kept for the Service default/kubernetes"):
        address(quiet, "b", clusterIP="10.96.0.1")


def test_a_range_that_is_being_removed_gives_no_address(quiet):
    add(quiet, MORE)
    quiet.delete(SERVICE_CIDRS, None, "more")
    with pytest.raises(Invalid, match="not in the valid range"):
        address(quiet, "b", clusterIP="10.97.0.77")


def test_an_unused_range_goes_at_once(registry):
    add(registry, MORE)
    registry.delete(SERVICE_CIDRS, None, "more")
    eventually(lambda: is_gone(registry))


def test_a_range_in_use_goes_with_its_last_service(registry):
    add(registry, MORE)
    address(registry, "b", clusterIP="10.97.0.77")
    registry.delete(SERVICE_CIDRS, None, "more")
    eventually(lambda: ready(registry, "more") == "False")
    registry.delete(SERVICES, "default", "b")
    eventually(lambda: is_gone(registry))


def test_a_range_in_use_goes_when_another_holds_its_addresses(registry):
    add(registry, MORE)
    address(registry, "b", clusterIP="10.97.0.77")
    add(registry, "10.97.0.0/16", name="wider")
    registry.delete(SERVICE_CIDRS, None, "more")
    eventually(lambda: is_gone(registry))


def test_no_service_keeps_an_address_of_a_range_that_went_in_between(registry):
    def attempt(number: int) -> None:
        with contextlib.suppress(ApiError):
            if number % 5 == 4:
                registry.delete(SERVICE_CIDRS, None, "more")
            else:
                address(registry, f"s{number}", clusterIP=f"10.97.0.{number + 1}")

    for _ in range(5):
        with contextlib.suppress(ApiError):
            add(registry, MORE)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(attempt, range(10)))
        held = [each["spec"]["clusterIP"] for each in registry.list(SERVICES)]
        assert not is_gone(registry) or not any(each.startswith("10.97.") for each in held)
        for each in registry.list(SERVICES, "default"):
            registry.delete(SERVICES, "default", each["metadata"]["name"])
        eventually(lambda: not any("deletionTimestamp" in each["metadata"] for each in registry.list(SERVICE_CIDRS)))


def test_a_service_relies_on_the_range_its_address_is_of(quiet):
    add(quiet, MORE)
    asked = {"metadata": {"namespace": "default", "name": "b"}, "spec": {"ports": [{"port": 80}]}}
    asked["spec"]["clusterIP"] = "10.97.0.77"
    services = quiet.strategy(SERVICES)
    (relied,) = services.admit(services.default(asked), None, quiet.hub.claims).relies_on
    assert quiet.hub.claims.revision(relied) > 0
    quiet.delete(SERVICE_CIDRS, None, "more")
    assert quiet.hub.claims.revision(relied) < 0


def complaints(cidrs: list[str], old: dict[str, Any] | None = None, name: str = "more") -> dict[str, str]:
    obj = STRATEGY.default({"metadata": {"name": name}, "spec": {"cidrs": cidrs}})
    return {error.field: str(error) for error in STRATEGY.validate(obj, old)}


@pytest.mark.parametrize(
    ("cidrs", "field", "said"),
    [
        ([], "spec.cidrs", "at least one CIDR required"),
        (["10.97.0.1/24"], "spec.cidrs[0]", "must be a valid CIDR value"),
        (["FD00:97::/112"], "spec.cidrs[0]", "must be in canonical form (fd00:97::/112)"),
        (["10.97.0.0/24", "10.98.0.0/24"], "spec.cidrs", "no more than one IP for each IP family"),
        (["10.97.0.0/24", "fd00:97::/112", "10.98.0.0/24"], "spec.cidrs", "may only hold up to 2 values"),
    ],
)
def test_a_range_that_cannot_be_used_is_refused(cidrs, field, said):
    assert said in complaints(cidrs)[field]


def test_a_range_may_not_change():
    old = STRATEGY.default({"metadata": {"name": "more"}, "spec": {"cidrs": [MORE]}})
    assert "field is immutable" in complaints(["10.98.0.0/24"], old)["spec.cidrs"]


def test_the_name_of_the_servers_own_range_is_nobody_elses():
    assert "create a ServiceCIDR of another name" in complaints([MORE], name="kubernetes")["spec.cidrs"]
