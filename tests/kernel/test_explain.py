"""`podwire explain` beside a real podwire-api and a real podwire-proxy: what it says, what it compares, what it refuses.

The node and its pods are those of tests/service_node.py; the API server listens inside the node. Service `web` has the
endpoints a and b, here, and one that is not ready; `sticky` keeps its clients; `nobody` has none.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.__main__ import main
from tests import service_node
from tests.api_server import ApiServer
from tests.service_node import NODE, OUTSIDE, PODS, REMOTE
from tests.waiting import eventually

NAMESPACE = "/api/v1/namespaces/default"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
NODE1 = {
    "metadata": {"name": "node1"},
    "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
}
PORTS = [{"name": "http", "port": 80, "nodePort": 30080}]


class Desk:
    """The API server, the proxy's process and whoever asks."""

    def __init__(self, node: service_node.ServiceNode, api: ApiServer, log: Path) -> None:
        self.node = node
        self.api = api
        self._log = log
        self.proxy: subprocess.Popen | None = None
        self.cluster_ips: dict[str, str] = {}

    def create(self, path: str, body: dict) -> dict:
        answer = self.api.request("POST", path, body)
        assert answer.status < 300, answer.data
        return json.loads(answer.data)

    def fill(self) -> None:
        self.create("/api/v1/nodes", NODE1)
        node = json.loads(self.api.request("GET", "/api/v1/nodes/node1").data)
        node["status"] = {"addresses": [{"type": "InternalIP", "address": NODE}]}
        assert self.api.request("PUT", "/api/v1/nodes/node1/status", node).status == 200
        unready = {"addresses": [REMOTE], "conditions": {"ready": False}, "nodeName": "node2"}
        here = [{"addresses": [PODS[name]], "nodeName": "node1"} for name in "ab"]
        pod = {
            "metadata": {"name": "client"},
            "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "i"}]},
        }
        made = self.create(f"{NAMESPACE}/pods", pod)
        made["status"] = {"podIP": PODS["client"], "podIPs": [{"ip": PODS["client"]}]}
        assert self.api.request("PUT", f"{NAMESPACE}/pods/client/status", made).status == 200
        self.service("web", [*here, unready], type="NodePort", ports=PORTS, externalTrafficPolicy="Local")
        self.service("sticky", here, ports=[{"port": 80}], sessionAffinity="ClientIP")
        self.service("nobody", [], ports=[{"port": 80}])

    def service(self, name: str, endpoints: list, **spec) -> None:
        made = self.create(f"{NAMESPACE}/services", {"metadata": {"name": name}, "spec": spec})
        self.cluster_ips[name] = made["spec"]["clusterIP"]
        port = {"name": spec["ports"][0].get("name", ""), "port": 8080, "protocol": "TCP"}
        labels = {"kubernetes.io/service-name": name}
        body = {"metadata": {"name": f"{name}-1", "labels": labels}, "addressType": "IPv4", "ports": [port]}
        self.create(SLICES, {**body, "endpoints": endpoints})

    def start_proxy(self) -> None:
        flags = [f"--kubeconfig={self.api.kubeconfig}", "--hostname-override=node1"]
        with self._log.open("ab") as log:
            self.proxy = self.node.node.start(sys.executable, "-m", "proxy", *flags, stderr=log)
        eventually(self.is_as_it_should_be, every=0.3)

    def is_as_it_should_be(self) -> bool:
        """Whether the kernel's table is. Read while it is being made, it may make no sense."""
        done = self.run("--json", "--live", PODS["client"], "web:http")
        return done.exit_code == 0 and json.loads(done.stdout)["live"]["drift"] == []

    def run(self, *arguments: str) -> Result:
        argv = ["explain", f"--kubeconfig={self.api.kubeconfig}", "--node=node1", *arguments]
        return self.node.node.call(lambda: CliRunner().invoke(main, argv))

    def tell(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    def json(self, *arguments: str) -> dict:
        return json.loads(self.tell("--json", *arguments))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with service_node.service_node() as node:
        directory = tmp_path_factory.mktemp("api")
        api = ApiServer(home=node.node, directory=directory / "data")
        api.start()
        made = Desk(node, api, directory / "proxy.log")
        made.fill()
        made.start_proxy()
        yield made
        made.proxy.kill()
        made.proxy.wait()
        api.kill()


def test_a_service_is_explained_in_words(desk):
    told = desk.tell(PODS["client"], "web:http")

    assert told == (
        f"{PODS['client']} (a pod of this node) → {desk.cluster_ips['web']}:80/TCP, on node node1\n"
        f"  Service    default/web:http by its cluster IP {desk.cluster_ips['web']} port 80\n"
        "  Policy     internalTrafficPolicy Cluster: all endpoints\n"
        "  Endpoints  10.244.1.3:8080        on node1: 1 of 2 turns, sees 10.244.1.2\n"
        "             10.244.1.4:8080        on node1: 1 of 2 turns, sees 10.244.1.2\n"
        "             10.244.2.6:8080        on node2: left out, is not ready\n"
        "  Result     goes to one of 2 endpoints, in strict turn\n"
    )


def test_a_pod_is_named_by_its_name(desk):
    assert desk.tell("client", "web:http") == desk.tell("default/client", "default/web:80")
    assert desk.json("client", "web:80")["packet"]["source"] == PODS["client"]


def test_a_node_port_is_explained_for_somebody_outside(desk):
    told = desk.json(OUTSIDE, f"{NODE}:30080")

    assert (told["service"], told["frontend"], told["packet"]["origin"]) == ("default/web", "node port", "outside")
    assert told["policy"] == "externalTrafficPolicy Local: endpoints on node1"
    assert {endpoint["source"] for endpoint in told["endpoints"] if endpoint["turns"]} == {OUTSIDE}


def test_the_node_itself_is_explained(desk):
    told = desk.tell("node", "web:80")

    assert f"{NODE} (this node itself)" in told
    assert "sees the node's address: what the node itself sends must come back to it" in told


@pytest.mark.parametrize(
    ("destination", "result", "reason"),
    [
        ("nobody:80", "refused", "no endpoint in the cluster serves it"),
        ("web:81", "refused", "Service default/web has no port 81/TCP"),
        ("web/icmp", "refused", "Service default/web has no ICMP"),
        ("203.0.113.9:80", "passed", "no Service is served there: podwire-proxy leaves the packet as it is"),
    ],
)
def test_what_reaches_nobody_is_explained(desk, destination, result, reason):
    told = desk.json(PODS["client"], destination)

    assert (told["result"], told["reason"]) == (result, reason)


def test_what_is_explained_is_what_happens(desk):
    told = desk.json(PODS["client"], "web:http")
    chosen = {endpoint["address"] for endpoint in told["endpoints"] if endpoint["turns"]}
    answers = desk.node.asks("client", 4, desk.cluster_ips["web"])

    assert {PODS[answer.split()[0]] for answer in answers} == chosen


def test_the_rules_that_applied_are_told_on_demand(desk):
    told = desk.tell("--rules", OUTSIDE, f"{NODE}:30080")

    assert "prerouting: goto from-network" in told
    assert "@outside-nodeports" in told


def test_the_kernel_agrees_while_nobody_interferes(desk):
    told = desk.tell("--live", PODS["client"], "web:http")

    assert "The kernel's table: goes to one of 2 endpoints, in strict turn" in told
    assert "The table is as it should be." in told


def test_the_kernel_knows_which_client_is_kept_where(desk):
    answer = desk.node.ask("client", desk.cluster_ips["sticky"]).split()[0]
    told = desk.json("--live", PODS["client"], "sticky:80")

    assert told["keptByAffinity"] is False
    live = told["live"]["explanation"]
    assert live["keptByAffinity"] is True
    assert [endpoint["address"] for endpoint in live["endpoints"] if endpoint["turns"]] == [PODS[answer]]


@pytest.fixture
def unattended(desk) -> Iterator[Desk]:
    """Without the proxy, what others do to the table stays."""
    desk.proxy.kill()
    desk.proxy.wait()
    yield desk
    desk.start_proxy()


def test_drift_is_named(unattended):
    front = f"{unattended.cluster_ips['sticky']} . tcp . 80"
    for command in (
        f"delete element ip podwire-proxy services {{ {front} }}",
        "add element ip podwire-proxy cluster-ips { 203.0.113.7 }",
        "flush chain ip podwire-proxy stray-prerouting",
    ):
        unattended.node.node.run("nft", command)
    drifts = {each["place"]: each for each in unattended.json("--live", PODS["client"], "web:80")["live"]["drift"]}

    assert (
        drifts[f"services {front}"]["should"]
        == "10.244.1.3:8080 (hairpin), 10.244.1.4:8080 (hairpin), kept for 10800 s"
    )
    assert drifts[f"services {front}"]["is"] == "nothing"
    assert drifts["cluster-ips 203.0.113.7"]["should"] == "nothing"
    assert drifts["chain stray-prerouting"] == {"place": "chain stray-prerouting", "should": "1 rules", "is": "0 rules"}


def test_a_table_that_is_gone_is_named(unattended):
    unattended.node.node.run("nft", "delete table ip podwire-proxy")
    told = unattended.tell("--live", PODS["client"], "web:80")

    assert "absent: is podwire-proxy running here?" in told


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["10.244.1.2", "nowhere:80"],
            "DESTINATION 'nowhere:80': no Service default/nowhere that podwire-proxy serves",
        ),
        (["10.244.1.2", "web:https"], "DESTINATION 'web:https': name one of its ports: 80/TCP (http)"),
        (["10.244.1.2", "10.96.0.1"], "DESTINATION '10.96.0.1': an address needs a port"),
        (["10.244.1.2", "10.96.0.1:99999"], "DESTINATION '10.96.0.1:99999': an address needs a port"),
        (["10.244.1.2", "web:80/quic"], "DESTINATION 'web:80/quic'"),
        (["10.244.1.2", ""], "DESTINATION ''"),
        (["fd00::2", "web:80"], "is of another family than fd00::2"),
        (["nosuchpod", "web:80"], 'pods "nosuchpod" not found'),
        (["a/b/c", "web:80"], "cannot stand in a path"),
        (["--config=/dev/null", "10.244.1.2", "web:80"], "/dev/null"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_a_clear_line(desk, arguments, complaint):
    done = desk.run(*arguments)

    assert done.exit_code == 1
    assert complaint in done.stderr
