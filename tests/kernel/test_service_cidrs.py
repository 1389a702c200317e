"""ServiceCIDRs from the API server to the kernel: the proxy drops what is sent to addresses that no Service has, at once.

Address plan: the API server's own range 10.96.0.0/16; 10.99.0.0/24 is added and removed. Node and pods are those of
tests/service_node.py; without a rule a packet to 10.99.0.7 is routed to the remote pod, which answers there.
"""

import contextlib
import json
import sys
from collections.abc import Iterator

import pytest

from tests import service_node
from tests.api_server import ApiServer
from tests.service_node import SILENCE, ServiceNode
from tests.waiting import eventually

PATH = "/apis/networking.k8s.io/v1/servicecidrs"
SERVICES = "/api/v1/namespaces/default/services"
UNALLOCATED = "10.99.0.7"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServiceNode, ApiServer]]:
    with service_node.service_node() as node:
        directory = tmp_path_factory.mktemp("cidrs")
        api = ApiServer(home=node.node, directory=directory / "api" / "data")
        api.directory.parent.mkdir()
        api.start()
        assert api.request("POST", "/api/v1/nodes", {"metadata": {"name": "node1"}}).status == 201
        flags = [f"--kubeconfig={api.kubeconfig}", "--hostname-override=node1"]
        with (directory / "proxy.log").open("ab") as log:
            proxy = node.node.start(sys.executable, "-m", "proxy", *flags, stderr=log)
        eventually(lambda: "event=synced" in (directory / "proxy.log").read_text())
        node.pods["remote"].run("ip", "address", "add", f"{UNALLOCATED}/32", "dev", "lo")
        yield node, api
        proxy.kill()
        proxy.wait()
        api.kill()


@pytest.fixture
def added(cluster: tuple[ServiceNode, ApiServer]) -> Iterator[None]:
    """A second range, gone again after the test."""
    node, api = cluster
    made = api.request("POST", PATH, {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.99.0.0/24"]}})
    assert made.status == 201, made.data
    eventually(lambda: "10.99.0.0/24" in rules(node))
    yield
    api.request("DELETE", f"{PATH}/more")
    eventually(lambda: "10.99.0.0/24" not in rules(node))


def rules(node: ServiceNode) -> str:
    return node.node.run("nft", "list", "ruleset")


def is_refused(node: ServiceNode, address: str) -> bool:
    with contextlib.suppress(TimeoutError):
        try:
            node.ask("client", address, timeout=SILENCE)
        except ConnectionRefusedError:
            return True
    return False


def test_outside_every_range_the_network_answers(cluster):
    assert cluster[0].ask("client", UNALLOCATED, 8080).startswith("remote ")


def test_an_added_range_is_silent_at_once(cluster, added):
    assert cluster[0].is_ignored("client", UNALLOCATED, 8080)


def test_a_service_gets_its_address_from_the_added_range_and_its_refusal_from_the_proxy(cluster, added):
    node, api = cluster
    body = {"metadata": {"name": "web"}, "spec": {"clusterIP": UNALLOCATED, "ports": [{"port": 80}]}}
    assert api.request("POST", SERVICES, body).status == 201
    try:
        eventually(lambda: is_refused(node, UNALLOCATED))
    finally:
        api.request("DELETE", f"{SERVICES}/web")
    eventually(lambda: not is_refused(node, UNALLOCATED))

    assert node.is_ignored("client", UNALLOCATED)


def test_a_range_in_use_stays_until_its_service_goes(cluster):
    node, api = cluster
    api.request("POST", PATH, {"metadata": {"name": "held"}, "spec": {"cidrs": ["10.98.0.0/24"]}})
    eventually(lambda: "10.98.0.0/24" in rules(node))
    api.request(
        "POST", SERVICES, {"metadata": {"name": "w"}, "spec": {"clusterIP": "10.98.0.7", "ports": [{"port": 80}]}}
    )
    api.request("DELETE", f"{PATH}/held")
    held = json.loads(api.request("GET", f"{PATH}/held").data)
    assert held["metadata"]["deletionTimestamp"]
    # Who knows of the later one knows that the first is to go.
    api.request("POST", PATH, {"metadata": {"name": "later"}, "spec": {"cidrs": ["10.101.0.0/24"]}})
    eventually(lambda: "10.101.0.0/24" in rules(node))
    assert "10.98.0.0/24" in rules(node)
    api.request("DELETE", f"{PATH}/later")
    api.request("DELETE", f"{SERVICES}/w")
    eventually(lambda: api.request("GET", f"{PATH}/held").status == 404)
    eventually(lambda: "10.98.0.0/24" not in rules(node))


def test_kubectl_lists_ranges_and_leases_as_elsewhere(cluster):
    _, api = cluster
    header, line = api.kubectl("get", "servicecidrs", "kubernetes").splitlines()
    assert (header.split(), line.split()[:2]) == (["NAME", "CIDRS", "AGE"], ["kubernetes", "10.96.0.0/16"])
    assert "kubernetes" in api.kubectl("get", "servicecidr", "kubernetes", "-o", "yaml")
    refused = api.kubectl("delete", "servicecidr", "kubernetes", check=False)
    assert "forbidden" in refused
    assert "leases" in api.kubectl("api-resources", "-o", "name")
