"""A cluster without IPv4: the API server, Services, nodes and pods.

Address plan: API server fd00:192:2::254, nodes n1 and n2 fd00:192:2::1 and ::2; pods fd00:10:244::/56, Services
fd00:10:96::/112.
"""

import json
from collections.abc import Iterator

import msgspec
import pytest

from kube import resources
from tests.node_cluster import ClusterOfAgents, cluster
from tests.waiting import eventually

FLAGS = ("--cluster-cidr", "fd00:10:244::/56", "--service-cidr", "fd00:10:96::/112")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterOfAgents]:
    with cluster(tmp_path_factory.mktemp("six"), *FLAGS, server="fd00:192:2::254") as six:
        six.add("n1", "fd00:192:2::1")
        six.add("n2", "fd00:192:2::2")
        eventually(lambda: six.is_ready("n1") and six.is_ready("n2"), within=120)
        yield six


def test_a_node_has_an_address_and_a_podcidr_of_ipv6(made: ClusterOfAgents) -> None:
    node = made.node("n1")
    assert {"type": "InternalIP", "address": "fd00:192:2::1"} in node["status"]["addresses"]
    assert [cidr.startswith("fd00:10:244:") for cidr in node["spec"]["podCIDRs"]] == [True]


def test_the_api_server_is_a_service_of_ipv6(made: ClusterOfAgents) -> None:
    def answer(kind: resources.ResourceType) -> dict:
        return msgspec.json.decode(made.ask(lambda client: client.get(kind, "kubernetes", "default")))

    assert answer(resources.SERVICES)["spec"]["clusterIPs"] == ["fd00:10:96::1"]
    piece = answer(resources.ENDPOINT_SLICES)
    assert (piece["addressType"], piece["endpoints"][0]["addresses"]) == ("IPv6", ["fd00:192:2::254"])


def test_the_other_nodes_pods_are_routed(made: ClusterOfAgents) -> None:
    agent = made.agents["n1"]
    eventually(lambda: agent.routes6() == {f"{made.pod_cidr('n2')} via fd00:192:2::2 dev eth0"})
    assert agent.routes() == set()


def test_a_pod_gets_an_ipv6_address_and_the_node_forwards_for_it(made: ClusterOfAgents, make_namespace) -> None:
    agent, pod = made.agents["n1"], make_namespace("pod")
    network = json.loads(agent.conflist.read_text())
    conf = network["plugins"][0] | {"cniVersion": network["cniVersion"], "name": network["name"]}
    arguments = {
        "COMMAND": "ADD",
        "CONTAINERID": "c1",
        "NETNS": str(pod.path),
        "IFNAME": "eth0",
        "PATH": agent.plugin.parent,
    }
    environment = [f"CNI_{key}={value}" for key, value in arguments.items()]
    result = json.loads(agent.namespace.run("env", *environment, str(agent.plugin), stdin=json.dumps(conf)))
    assert [each["address"].startswith("fd00:10:244:") for each in result["ips"]] == [True]
    pod.run("ping", "-c1", "-W30", "fd00:192:2::1")
    eventually(lambda: agent.namespace.run("sysctl", "-n", "net.ipv6.conf.all.forwarding").strip() == "1")
