"""What a route of the configuration asks for beyond its way, as iproute2 shows it in the pod."""

import json

import pytest

from tests.cni_plugin import PluginNode

ROUTES = [
    {"dst": "192.0.2.0/24", "mtu": 1300, "advmss": 1260, "priority": 7},
    {"dst": "198.51.100.0/24", "table": 1000},
    {"dst": "0.0.0.0/0"},
]
IPAM = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}]], "routes": ROUTES}


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path)


@pytest.fixture
def pod(make_namespace):
    return make_namespace("pod")


def shown(pod, *selector) -> dict[str, object]:
    return json.loads(pod.run("ip", "-json", "-detail", "route", "show", *selector))[0]


def test_mtu_advmss_and_priority_stand_in_the_pod(node, pod):
    assert node.call("ADD", pod, cniVersion="1.1.0", ipam=IPAM)["exit"] == 0
    route = shown(pod, "192.0.2.0/24")
    assert route["metrics"] == [{"mtu": 1300, "advmss": 1260}]
    assert (route["metric"], route["gateway"]) == (7, "10.244.1.1")


def test_a_route_may_stand_in_another_table_and_check_accepts_it(node, pod):
    answer = node.call("ADD", pod, cniVersion="1.1.0", ipam=IPAM)
    assert shown(pod, "table", "1000")["dst"] == "198.51.100.0/24"
    del answer["exit"]
    assert node.call("CHECK", pod, cniVersion="1.1.0", ipam=IPAM, prevResult=answer) == {"exit": 0}
