"""podwire-proxy as a process on a dual-stack cluster: two tables in one process, each kept and defended by itself.

The node and its pods are those of tests/service_node.py, with the addresses of both families.
"""

import contextlib
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.nft.linux import LinuxNft
from proxy import layout
from tests import service_node
from tests.address_plan import IPV4, IPV6, AddressPlan
from tests.api_server import ApiServer
from tests.proxy_reading import Reading
from tests.service_node import ServiceNode, ask_udp
from tests.waiting import PATIENCE, eventually

SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
PLANS = {"IPv4": IPV4, "IPv6": IPV6}


class Cluster:
    """A dual-stack API server and the proxy beside it."""

    def __init__(self, node: ServiceNode, api: ApiServer, log: Path) -> None:
        self.node = node
        self.api = api
        self._log = log
        self.nfts = {"IPv4": node.nft, "IPv6": node.nft.beside(IPV6.ruleset.table)}

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        flags = [f"--kubeconfig={self.api.kubeconfig}", "--hostname-override=node1"]
        with self._log.open("ab") as log:
            self.process = self.node.node.start(sys.executable, "-m", "proxy", *flags, stderr=log)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(30 * PATIENCE)

    def ask(self, method: str, path: str, body: dict) -> dict:
        answer = self.api.request(method, path, body)
        assert answer.status < 300, answer.data
        return json.loads(answer.data)

    def create(self, name: str, *pods: str, policy: str = "RequireDualStack", **spec) -> dict[str, str]:
        """A Service with a slice for each family; its cluster IPs by family."""
        ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
        body = {"metadata": {"name": name}, "spec": {"ports": ports, "ipFamilyPolicy": policy, **spec}}
        made = self.ask("POST", SERVICES, body)["spec"]
        for plan in PLANS.values():
            self.ask("POST", SLICES, _slice(name, plan, pods))
        return dict(zip(made["ipFamilies"], made["clusterIPs"], strict=True))

    def change(self, name: str, *pods: str) -> None:
        for plan in PLANS.values():
            self.ask("PUT", f"{SLICES}/{name}-{plan.family.lower()}", _slice(name, plan, pods))

    def targets(self, family: str) -> set[str]:
        """The pods that get new connections, by a family's table."""
        nft: LinuxNft = self.nfts[family]
        found: set[str] = set()
        with contextlib.suppress(Exception):  # read while it is being changed, or gone
            found = {target.rpartition(":")[0] for way in Reading(nft).ways.values() for target in way.targets}
        return {name for name, address in PLANS[family].pods.items() if address in found}

    def await_targets(self, *pods: str) -> None:
        eventually(lambda: all(self.targets(family) == set(pods) for family in PLANS))

    def health(self) -> dict:
        """What is told once all families are served."""
        return eventually(self._health)

    def _health(self) -> dict | None:
        told = self.get("http://127.0.0.1:10256/healthz")
        report = json.loads(told) if told else {}
        return report if report.get("healthy") else None

    def told_of(self) -> list[str]:
        """What was logged of changes by somebody else."""
        return [line for line in self.log.splitlines() if "somebody else" in line]

    def get(self, url: str) -> str:
        return self.node.node.run("curl", "-s", url, check=False)


def _slice(name: str, plan: AddressPlan, pods: tuple[str, ...]) -> dict:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-{plan.family.lower()}", "labels": {"kubernetes.io/service-name": name}},
        "addressType": plan.family,
        "ports": [
            {"name": "http", "port": 8080, "protocol": "TCP"},
            {"name": "dns", "port": 8080, "protocol": "UDP"},
        ],
        "endpoints": [{"addresses": [plan.pods[pod]], "nodeName": "node1"} for pod in pods],
    }


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cidrs = ("--cluster-cidr=10.244.0.0/16,fd00:10:244::/56", "--service-cidr=10.96.0.0/16,fd00:10:96::/112")
    with service_node.service_node(IPV4, IPV6) as node:
        directory = tmp_path_factory.mktemp("dual")
        api = ApiServer(home=node.node, directory=directory / "api" / "data", flags=cidrs)
        api.directory.parent.mkdir()
        api.start()
        made = Cluster(node, api, directory / "proxy.log")
        addresses = [{"type": "InternalIP", "address": plan.node} for plan in PLANS.values()]
        made.ask("POST", "/api/v1/nodes", {"metadata": {"name": "node1"}})
        node1 = json.loads(api.request("GET", "/api/v1/nodes/node1").data)
        made.ask("PUT", "/api/v1/nodes/node1/status", {**node1, "status": {"addresses": addresses}})
        made.start()
        yield made
        made.end()
        api.kill()


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    yield shared
    for item in json.loads(shared.api.request("GET", SERVICES).data)["items"]:
        if item["metadata"]["name"] != "kubernetes":
            shared.ask("DELETE", f"{SERVICES}/{item['metadata']['name']}", {})
    for item in json.loads(shared.api.request("GET", SLICES).data)["items"]:
        if item["metadata"]["name"] != "kubernetes":
            shared.ask("DELETE", f"{SLICES}/{item['metadata']['name']}", {})
    shared.await_targets()


def test_a_dual_stack_service_is_served_and_followed_in_both_families(cluster):
    cluster_ips = cluster.create("web", "a", "b", type="NodePort")
    cluster.await_targets("a", "b")
    for address in cluster_ips.values():
        assert sorted(answer[0] for answer in cluster.node.asks("client", 4, address)) == ["a", "a", "b", "b"]
    cluster.change("web", "c")
    cluster.await_targets("c")

    assert {cluster.node.ask("client", address).split()[0] for address in cluster_ips.values()} == {"c"}


def test_a_single_stack_service_is_in_one_table_only(cluster):
    (address,) = cluster.create("six", "a", policy="SingleStack", ipFamilies=["IPv6"]).values()
    cluster.create("both", "b")
    # Changes are followed in their order: IPv4 has seen the first Service when it has the second.
    eventually(lambda: cluster.targets("IPv6") == {"a", "b"})
    found = eventually(lambda: cluster.targets("IPv4"))

    assert found == {"b"}
    assert cluster.node.ask("client", address).startswith("a ")


def test_node_ports_are_served_at_the_nodes_address_of_each_family(cluster):
    cluster.create("web", "a", type="NodePort")
    cluster.await_targets("a")
    ports = json.loads(cluster.api.request("GET", f"{SERVICES}/web").data)["spec"]["ports"]

    for plan in PLANS.values():
        assert cluster.node.ask("outside", plan.node, ports[0]["nodePort"]).startswith("a ")


def test_udp_flows_of_ipv6_follow_the_endpoints(cluster):
    cluster_ips = cluster.create("dns", "a")
    cluster.await_targets("a")
    with cluster.node.inside("client", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as opened:
        assert ask_udp(opened, cluster_ips["IPv6"], 53).startswith("a ")
        cluster.change("dns", "b")
        cluster.await_targets("b")

        assert eventually(lambda: ask_udp(opened, cluster_ips["IPv6"], 53).startswith("b "))


@pytest.mark.parametrize("family", PLANS)
def test_either_table_is_repaired_and_the_other_left_alone(cluster, family):
    cluster.create("web", "a", "b")
    cluster.await_targets("a", "b")
    (other,) = PLANS.keys() - {family}
    before = set(cluster.nfts[other].elements(layout.ENDPOINTS))
    told = len(cluster.told_of())
    cluster.node.node.run("nft", f"delete table {PLANS[family].table}")
    eventually(lambda: any(f'table="{PLANS[family].table}"' in line for line in cluster.told_of()[told:]))
    eventually(lambda: cluster.targets(family) == {"a", "b"})
    # What the other table's repair would have written stands there before what comes after it.
    cluster.create("late", "c")
    cluster.await_targets("a", "b", "c")

    assert before <= set(cluster.nfts[other].elements(layout.ENDPOINTS))


def test_a_restarted_proxy_that_finds_both_tables_right_writes_nothing(cluster):
    cluster.create("web", "a", "b", sessionAffinity="ClientIP")
    cluster.await_targets("a", "b")

    def restart_writes_nothing() -> bool:
        cluster.end()
        generation = cluster.node.nft.generation()
        cluster.start()
        return cluster.health() and cluster.node.nft.generation() == generation

    # The first one may find that there was something left to clear away.
    assert eventually(restart_writes_nothing)


def test_its_own_changes_of_one_table_are_not_taken_for_somebody_elses_by_the_other(cluster):
    cluster.create("web", "a")
    cluster.await_targets("a")

    def is_told_of_the_other_only() -> bool:
        told = len(cluster.told_of())
        for pods in (("a", "b"), ("a",)):
            cluster.change("web", *pods)
            cluster.await_targets(*pods)
        # Notices come in the order of the changes: what was wrongly taken for somebody else's comes before this.
        chain = f"chain {IPV4.table} mine"
        cluster.node.node.run("nft", "-f", "-", stdin=f"add {chain}\ndelete {chain}\n")
        eventually(lambda: len(cluster.told_of()) > told)
        return ["command=nft" in line for line in cluster.told_of()[told:]] == [True]

    # Whoever comes during a transaction of the proxy's own is told of without a name.
    assert eventually(is_told_of_the_other_only)


def test_health_and_figures_tell_of_both_families(cluster):
    cluster_ips = cluster.create("web", "a", "b")
    cluster.await_targets("a", "b")
    for address in cluster_ips.values():
        cluster.node.asks("client", 2, address)
    wanted = [
        f'{figure}{{ip_family="{family}"{more}'
        for family in PLANS
        for figure, more in (
            ("sync_proxy_rules_duration_seconds_count", "}"),
            ("podwire_service_connections_total", ',namespace="default",port="http"'),
        )
    ]

    def figures() -> str:
        return cluster.get("http://127.0.0.1:10249/metrics")

    assert cluster.health()["status"].keys() == PLANS.keys()
    # Whose an endpoint is gets known once the round that wrote it has ended.
    assert eventually(lambda: all(figure in figures() for figure in wanted))
    assert figures().count("# TYPE podwire_service_connections_total") == 1


def test_health_check_ports_answer_in_each_family_for_its_own_endpoints(cluster):
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    cluster.create("lb", "a", "b", **spec)
    cluster.await_targets("a", "b")
    cluster.ask("DELETE", f"{SLICES}/lb-ipv6", {})
    port = json.loads(cluster.api.request("GET", f"{SERVICES}/lb").data)["spec"]["healthCheckNodePort"]

    four, six = PLANS["IPv4"].node, PLANS["IPv6"].node

    assert eventually(lambda: '"localEndpoints": 2' in cluster.get(f"http://{four}:{port}/"))
    assert eventually(lambda: '"localEndpoints": 0' in cluster.get(f"http://[{six}]:{port}/"))
    assert cluster.get(f"http://127.0.0.1:{port}/") == ""  # node ports are served at the node's address alone


def test_where_ipv6_is_switched_off_ipv4_is_served_alone(cluster):
    cluster.end()
    for nft in cluster.nfts.values():
        nft.delete_table()
    cluster.node.node.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    try:
        cluster.start()
        cluster.create("web", "a", policy="SingleStack")
        eventually(lambda: cluster.targets("IPv4") == {"a"})

        assert cluster.health()["status"].keys() == {"IPv4"}
        assert not cluster.nfts["IPv6"].table_exists()
    finally:
        cluster.end()
        cluster.node.node.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")
        cluster.start()
