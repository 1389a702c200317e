"""CHECK: silent while all is as the ADD said, and exact about what is not."""

from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network

import pytest

from dataplane.netlink.objects import Route
from tests.cni_node import FakeNode


@pytest.fixture
def node(tmp_path) -> FakeNode:
    return FakeNode(tmp_path / "state")


@pytest.fixture
def pod(node):
    return node.pod("web")


@pytest.fixture
def added(node, pod):
    answer = node.call("ADD", pod)
    del answer["exit"]
    return answer


def test_check_right_after_add_is_silent(node, pod, added):
    assert node.call("CHECK", pod, prevResult=added) == {"exit": 0}


def _lose_interface(node, pod):
    pod.netlink.delete_link("eth0")


def _lose_address(node, pod):
    pod.netlink.delete_address("eth0", IPv4Interface("10.244.1.2/24"))


def _lose_route(node, pod):
    gone = next(route for route in pod.netlink.routes() if route.destination == IPv4Network("0.0.0.0/0"))
    pod.netlink.delete_route(gone)


def _lose_bridge(node, pod):
    node.netlink.delete_link("podwire0")


def _lose_gateway(node, pod):
    node.netlink.delete_address("podwire0", IPv4Interface("10.244.1.1/24"))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_lose_interface, "eth0 is gone from the pod"),
        (_lose_address, "eth0 has lost 10.244.1.2/24"),
        (_lose_route, "the pod has no route to 0.0.0.0/0"),
        (_lose_bridge, "bridge podwire0 is gone"),
        (_lose_gateway, "bridge podwire0 has lost 10.244.1.1/24"),
    ],
)
def test_check_names_what_is_missing(node, pod, added, damage, named):
    damage(node, pod)
    answer = node.call("CHECK", pod, prevResult=added)
    assert answer["code"] == 102
    assert named in answer["details"]


def test_check_names_every_difference_at_once(node, pod, added):
    _lose_address(node, pod)
    _lose_gateway(node, pod)
    details = node.call("CHECK", pod, prevResult=added)["details"]
    assert "has lost 10.244.1.2/24" in details
    assert "has lost 10.244.1.1/24" in details


def test_check_accepts_a_mac_a_later_plugin_set(node, pod, added):
    changed = "02:00:00:00:00:07"
    pod.netlink._links["eth0"] = replace(pod.netlink.link("eth0"), mac=changed)
    added["interfaces"][2]["mac"] = changed
    assert node.call("CHECK", pod, prevResult=added) == {"exit": 0}


def test_check_accepts_routes_a_later_plugin_added(node, pod, added):
    pod.netlink.add_route(Route(destination=IPv4Network("192.0.2.0/24"), device="eth0"))
    added["routes"].append({"dst": "192.0.2.0/24"})
    assert node.call("CHECK", pod, prevResult=added) == {"exit": 0}


def test_check_without_previous_result_is_refused(node, pod, added):
    assert node.call("CHECK", pod)["code"] == 7


def test_check_of_a_deleted_container_says_it_is_unknown(node, pod, added):
    node.call("DEL", pod)
    assert node.call("CHECK", pod, prevResult=added)["code"] == 3


def test_check_in_another_namespace_at_the_same_path_fails(node, pod, added):
    node.pod("web")
    answer = node.call("CHECK", pod, prevResult=added)
    assert (answer["code"], "CNI_NETNS" in answer["msg"]) == (102, True)


def test_check_before_0_4_0_is_refused(node, pod, added):
    answer = node.call("CHECK", pod, prevResult=added, cniVersion="0.3.1")
    assert (answer["code"], answer["msg"]) == (1, "config version does not allow CHECK")
