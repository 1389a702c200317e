"""A pod with an address from each list of ranges, as the runtime and the kernel see it. In memory."""

from ipaddress import ip_interface

import pytest

from tests.cni_node import FakeNode

DUAL = {
    "type": "podwire-ipam",
    "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:244:1::/64"}]],
    "routes": [{"dst": "192.0.2.0/24"}, {"dst": "2001:db8::/32", "gw": "fd00:244:1::9"}],
}
V4, V6 = "10.244.1.2/24", "fd00:244:1::2/64"


@pytest.fixture
def node(tmp_path):
    return FakeNode(tmp_path / "state")


def test_pod_gets_an_address_of_each_family(node):
    pod = node.pod("web")
    node.call("ADD", pod, ipam=DUAL)
    assert [str(held.interface) for held in pod.netlink.addresses("eth0")] == [V4, V6]


def test_bridge_carries_a_gateway_of_each_family(node):
    node.call("ADD", node.pod("web"), ipam=DUAL)
    held = {held.interface for held in node.netlink.addresses("podwire0")}
    assert held == {ip_interface("10.244.1.1/24"), ip_interface("fd00:244:1::1/64")}


def test_no_address_waits_for_duplicate_detection(node):
    pod = node.pod("web")
    node.call("ADD", pod, ipam=DUAL)
    held = [*pod.netlink.addresses("eth0"), *node.netlink.addresses("podwire0")]
    assert all(address.nodad for address in held)


def test_each_route_leads_to_its_familys_gateway(node):
    pod = node.pod("web")
    node.call("ADD", pod, ipam=DUAL)
    led = {str(route.destination): str(route.gateway) for route in pod.netlink.routes() if route.gateway}
    assert led == {
        "192.0.2.0/24": "10.244.1.1",
        "0.0.0.0/0": "10.244.1.1",
        "2001:db8::/32": "fd00:244:1::9",
        "::/0": "fd00:244:1::1",
    }


def test_result_lists_both_addresses_on_the_pods_interface(node):
    answer = node.call("ADD", node.pod("web"), ipam=DUAL)
    assert answer["ips"] == [
        {"address": V4, "gateway": "10.244.1.1", "interface": 2},
        {"address": V6, "gateway": "fd00:244:1::1", "interface": 2},
    ]


def test_flat_result_has_a_place_for_each_family(node):
    answer = node.call("ADD", node.pod("web"), ipam=DUAL, cniVersion="0.2.0")
    assert (answer["ip4"]["ip"], answer["ip6"]["ip"]) == (V4, V6)
    assert {route["dst"] for route in answer["ip6"]["routes"]} == {"2001:db8::/32", "::/0"}


def test_check_passes_and_names_the_lost_address(node):
    pod = node.pod("web")
    result = node.call("ADD", pod, ipam=DUAL)
    assert node.call("CHECK", pod, ipam=DUAL, prevResult=result)["exit"] == 0
    pod.netlink.delete_address("eth0", ip_interface(V6))
    assert f"eth0 has lost {V6}" in node.call("CHECK", pod, ipam=DUAL, prevResult=result)["details"]


def test_both_addresses_are_given_back_together(node):
    pod = node.pod("web")
    node.call("ADD", pod, ipam=DUAL)
    node.call("DEL", pod, ipam=DUAL)
    assert node.leased() == {}


def test_masquerade_of_each_family_has_a_table(node):
    node.call("ADD", node.pod("web"), ipam=DUAL, ipMasq=True)
    (text,) = node.loaded
    assert "add element ip podwire-cni subnets { 10.244.1.0/24 }" in text
    assert "add element ip6 podwire-cni subnets { fd00:244:1::/64 }" in text


def test_pod_of_ipv6_alone(node):
    pod = node.pod("web")
    ipam = {"type": "podwire-ipam", "ranges": [[{"subnet": "fd00:244:1::/64"}]]}
    answer = node.call("ADD", pod, ipam=ipam)
    assert [ip["address"] for ip in answer["ips"]] == [V6]
    assert answer["routes"] == [{"dst": "::/0"}]


def test_full_second_range_gives_nothing_of_the_first(node):
    ipam = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00::/126"}]]}
    answers = [node.call("ADD", node.pod(name), ipam=ipam) for name in "abc"]
    assert [answer["exit"] for answer in answers] == [0, 0, 1]
    assert (answers[2]["code"], set(node.leased())) == (100, {"a", "b"})
