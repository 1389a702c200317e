"""Allocation under the real registry and store: parallel writers, full pools, values that come back."""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import resources
from api.registry import Registry
from api.store.sqlite import SqliteStore
from kube.errors import AlreadyExists, Invalid, NotFound
from kube.resources import NAMESPACES, NODES, SERVICES

# Address plan: a /29 holds six addresses, the first of them the API server's own; a /23 holds two nodes.
SMALL_SERVICES = IPv4Network("10.96.0.0/29")
SMALL_SERVICES6 = IPv6Network("fd00:10:96::/125")
LARGE_SERVICES = IPv4Network("10.96.0.0/16")
TWO_NODES = IPv4Network("10.244.0.0/23")


@pytest.fixture
def open_registry(tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    stores: list[SqliteStore] = []

    def build(service_cidr: IPv4Network = LARGE_SERVICES) -> Registry:
        while stores:
            stores.pop().close()
        stores.append(SqliteStore(tmp_path / "store.db"))
        return Registry(stores[0], resources.strategies((TWO_NODES,), (service_cidr,)))

    yield build
    for store in stores:
        store.close()


@pytest.fixture
def registry(open_registry) -> Registry:
    built = open_registry(SMALL_SERVICES)
    built.create(NAMESPACES, None, {"metadata": {"name": "default"}})
    return built


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]} | spec}


def address(registry: Registry, name: str, **spec: Any) -> str:
    return registry.create(SERVICES, "default", service(name, **spec))["spec"]["clusterIP"]


def fill(registry: Registry) -> list[str]:
    return [address(registry, f"s{number}") for number in range(5)]


def test_fifty_services_created_at_once_get_fifty_addresses_and_node_ports(open_registry):
    registry = open_registry()
    registry.create(NAMESPACES, None, {"metadata": {"name": "default"}})
    with ThreadPoolExecutor(50) as pool:
        made = list(
            pool.map(lambda n: registry.create(SERVICES, "default", service(f"s{n}", type="NodePort")), range(50))
        )
    assert len({each["spec"]["clusterIP"] for each in made}) == 50
    assert len({each["spec"]["ports"][0]["nodePort"] for each in made}) == 50


def test_a_race_for_one_address_has_one_winner(registry):
    def attempt(name: str) -> bool:
        try:
            return address(registry, name, clusterIP="10.96.0.3") == "10.96.0.3"
        except Invalid:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, (f"s{number}" for number in range(8)))) == 1


def test_a_slash_29_holds_five_services_and_the_api_server(registry):
    assert sorted(fill(registry)) == [f"10.96.0.{number}" for number in range(2, 7)]
    assert address(registry, "kubernetes") == "10.96.0.1"


def test_the_sixth_service_is_refused_with_field_range_and_remedy(registry):
    fill(registry)
    with pytest.raises(Invalid, match=r"the service CIDR 10\.96\.0\.0/29 is exhausted") as refused:
        address(registry, "one-more")
    assert [cause.field for cause in refused.value.causes] == ["spec.clusterIP"]
    assert "start podwire-api with a larger --service-cidr" in refused.value.message
    assert len(registry.list(SERVICES)) == 5


def test_a_full_range_still_has_room_for_headless_services(registry):
    fill(registry)
    assert address(registry, "headless", clusterIP="None") == "None"


def test_a_deleted_services_address_is_given_again(registry):
    taken = fill(registry)
    registry.delete(SERVICES, "default", "s3")
    assert address(registry, "next") == taken[3]


def test_a_service_that_needs_no_address_any_more_frees_it(registry):
    taken = fill(registry)
    registry.patch(SERVICES, "default", "s2", {"spec": {"type": "ExternalName", "externalName": "a.example"}})
    assert address(registry, "next") == taken[2]


def test_a_service_that_needs_an_address_again_gets_one(registry):
    registry.create(SERVICES, "default", service("web", type="ExternalName", externalName="a.example"))
    changed = registry.patch(SERVICES, "default", "web", {"spec": {"type": "ClusterIP"}})
    assert changed["spec"]["clusterIP"] in {f"10.96.0.{number}" for number in range(2, 7)}


def test_a_service_deleted_and_made_again_finds_its_address(registry):
    first = address(registry, "web")
    registry.delete(SERVICES, "default", "web")
    assert address(registry, "web") == first


def test_a_node_port_is_freed_with_the_type_that_needed_it(registry):
    address(registry, "a", type="NodePort", ports=[{"port": 80, "nodePort": 30080}])
    with pytest.raises(Invalid, match="provided port is already allocated"):
        address(registry, "b", type="NodePort", ports=[{"port": 80, "nodePort": 30080}])
    registry.patch(SERVICES, "default", "a", {"spec": {"type": "ClusterIP"}})
    assert address(registry, "b", type="NodePort", ports=[{"port": 80, "nodePort": 30080}])


def test_a_refused_service_leaves_no_claim(registry):
    with pytest.raises(Invalid):
        address(registry, "a", type="NodePort", clusterIP="10.96.0.2", ports=[{"port": 80, "nodePort": 80}])
    assert address(registry, "b", clusterIP="10.96.0.2") == "10.96.0.2"


def test_claims_survive_a_restart(open_registry):
    registry = open_registry(SMALL_SERVICES)
    registry.create(NAMESPACES, None, {"metadata": {"name": "default"}})
    fill(registry)
    with pytest.raises(Invalid, match="is exhausted"):
        address(open_registry(SMALL_SERVICES), "one-more")


def test_many_nodes_at_once_get_two_pod_cidrs_and_clear_refusals(registry):
    def attempt(number: int) -> str:
        try:
            return registry.create(NODES, None, {"metadata": {"name": f"n{number}"}})["spec"]["podCIDR"]
        except Invalid as refused:
            return refused.message

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(attempt, range(8)))
    assert [answer for answer in answers if answer.startswith("10.")] == ["10.244.0.0/24", "10.244.1.0/24"]
    assert sum("the cluster CIDR 10.244.0.0/23 is exhausted" in answer for answer in answers) == 6


def test_a_third_node_is_refused_and_nothing_of_it_stays(registry):
    for name in ("n1", "n2"):
        registry.create(NODES, None, {"metadata": {"name": name}})
    with pytest.raises(Invalid, match=r"spec\.podCIDR: .*10\.244\.0\.0/23 is exhausted"):
        registry.create(NODES, None, {"metadata": {"name": "n3"}})
    assert [node["metadata"]["name"] for node in registry.list(NODES)] == ["n1", "n2"]


def test_a_deleted_nodes_pod_cidr_is_given_again(registry):
    for name in ("n1", "n2"):
        registry.create(NODES, None, {"metadata": {"name": name}})
    registry.delete(NODES, None, "n1")
    assert registry.create(NODES, None, {"metadata": {"name": "n3"}})["spec"]["podCIDR"] == "10.244.0.0/24"


SPECS = st.sampled_from(
    [
        {"type": "ClusterIP"},
        {"type": "NodePort"},
        {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
        {"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": False},
        {"type": "ExternalName", "externalName": "a.example"},
        {"clusterIP": "10.96.0.3"},
        {"clusterIP": None, "clusterIPs": None},
        {"clusterIP": "None"},
        {"ipFamilyPolicy": "RequireDualStack"},
        {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]},
        {"ipFamilyPolicy": "SingleStack"},
        {"clusterIP": "fd00:10:96::3"},
        {"ports": [{"port": 80, "nodePort": 30001}]},
        {"ports": [{"port": 80}, {"name": "b", "port": 81}]},
        {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 30002}]},
    ]
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["create", "patch", "delete"]), st.sampled_from("abcdefgh"), SPECS), max_size=25
)


@settings(max_examples=40)
@given(STEPS)
def test_whatever_is_done_to_services_claims_are_exactly_what_they_hold(steps):
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "store.db")
        registry = Registry(store, resources.strategies((TWO_NODES,), (SMALL_SERVICES, SMALL_SERVICES6)))
        registry.create(NAMESPACES, None, {"metadata": {"name": "default"}})
        for action, name, spec in steps:
            step(registry, action, name, spec)
        specs = [each["spec"] for each in registry.list(SERVICES)]
        addresses = [each for spec in specs for each in spec.get("clusterIPs", []) if each != "None"]
        numbers = [number for spec in specs for number in {each.get("nodePort") for each in spec["ports"]} - {None}]
        numbers += [spec["healthCheckNodePort"] for spec in specs if "healthCheckNodePort" in spec]
        assert sorted(addresses) == sorted(registry.hub.claims.taken("clusterips"))
        assert sorted(map(str, numbers)) == sorted(registry.hub.claims.taken("nodeports"))
        store.close()


def step(registry: Registry, action: str, name: str, spec: dict[str, Any]) -> None:
    try:
        if action == "create":
            registry.create(SERVICES, "default", service(name, **spec))
        elif action == "patch":
            registry.patch(SERVICES, "default", name, {"spec": spec})
        else:
            registry.delete(SERVICES, "default", name)
    except (AlreadyExists, Invalid, NotFound):
        return
