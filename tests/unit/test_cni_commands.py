"""The commands on a node in memory: what they make, what they refuse, what they leave."""

import json

import pytest

from cni import dispatch, leftovers
from dataplane.netlink.objects import Bridge
from tests.cni_node import FakeNode, Pod, environment, netconf


@pytest.fixture
def node(tmp_path) -> FakeNode:
    return FakeNode(tmp_path / "state")


def test_add_answers_with_address_gateway_and_interfaces(node):
    answer = node.call("ADD", node.pod("web"))
    assert answer == {
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": "podwire0", "mac": "0a:58:0a:f4:01:01"},
            {"name": answer["interfaces"][1]["name"], "mac": answer["interfaces"][1]["mac"]},
            {"name": "eth0", "mac": "0a:58:0a:f4:01:02", "sandbox": "/run/netns/web"},
        ],
        "ips": [{"address": "10.244.1.2/24", "interface": 2, "gateway": "10.244.1.1"}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "exit": 0,
    }


def test_add_wires_the_pod_as_it_says(node):
    pod = node.pod("web")
    node.call("ADD", pod)
    link = pod.netlink.link("eth0")
    assert (link.mac, link.up) == ("0a:58:0a:f4:01:02", True)
    assert [str(address.interface) for address in pod.netlink.addresses("eth0")] == ["10.244.1.2/24"]
    assert [str(route.gateway) for route in pod.netlink.routes() if route.gateway] == ["10.244.1.1"]


def test_node_end_is_a_hairpin_port_of_the_bridge_and_names_its_pod(node):
    arguments = {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_UID=7;FOO=bar"}
    answer = node.call("ADD", node.pod("web"), env=arguments)
    veth = node.netlink.link(answer["interfaces"][1]["name"])
    bridge = node.netlink.link("podwire0")
    assert (veth.master, veth.hairpin, veth.alias) == (bridge.index, True, "shop/web-1")


def test_without_kubernetes_the_alias_is_the_attachment(node):
    answer = node.call("ADD", node.pod("web"))
    assert node.netlink.link(answer["interfaces"][1]["name"]).alias == "web/eth0"


def test_bridge_carries_the_gateway_and_forwarding_is_on(node):
    node.call("ADD", node.pod("web"))
    assert [str(address.interface) for address in node.netlink.addresses("podwire0")] == ["10.244.1.1/24"]
    assert node.forwarding


def test_delete_leaves_neither_veth_nor_lease(node):
    pod = node.pod("web")
    node.call("ADD", pod)
    assert node.call("DEL", pod) == {"exit": 0}
    assert (node.veths(), node.leased(), pod.netlink.link("eth0")) == ([], {}, None)


def test_delete_may_be_repeated(node):
    pod = node.pod("web")
    node.call("ADD", pod)
    assert [node.call("DEL", pod)["exit"] for _ in range(3)] == [0, 0, 0]


def test_delete_of_what_was_never_added_is_success(node):
    assert node.call("DEL", node.pod("web")) == {"exit": 0}


@pytest.mark.parametrize("env", [{"CNI_NETNS": ""}, {}], ids=["no path", "path leads nowhere"])
def test_delete_frees_the_lease_of_a_vanished_namespace(node, env):
    pod = node.pod("web")
    node.call("ADD", pod)
    node.vanish(pod)
    assert node.call("DEL", pod, env=env) == {"exit": 0}
    assert (node.veths(), node.leased()) == ([], {})


def test_delete_touches_nothing_of_another_namespace_at_the_same_path(node):
    old = node.pod("web")
    node.call("ADD", old)
    node.vanish(old)
    stranger = node.pod("stranger")
    node.call("ADD", stranger)
    assert node.call("DEL", old, env={"CNI_NETNS": stranger.path}) == {"exit": 0}
    assert node.leased() == {"stranger": "10.244.1.3"}
    assert stranger.netlink.link("eth0") is not None


def test_delete_with_a_configuration_broken_since_still_frees(node):
    pod = node.pod("web")
    node.call("ADD", pod)
    assert node.call("DEL", pod, ipam={"ranges": "gone"}, mtu="?") == {"exit": 0}
    assert node.leased() == {}


def test_second_add_is_refused_and_harms_nothing(node):
    pod = node.pod("web")
    node.call("ADD", pod)
    answer = node.call("ADD", pod)
    assert answer["code"] == 101
    assert "CNI_IFNAME='eth0' already exists" in answer["msg"]
    assert "10.244.1.2" in answer["details"]
    assert (node.leased(), len(node.veths())) == ({"web": "10.244.1.2"}, 1)


def test_an_interface_somebody_else_made_is_refused_and_stays(node):
    pod = node.pod("web")
    pod.netlink.create_bridge(_bridge("eth0"))
    answer = node.call("ADD", pod)
    assert (answer["code"], pod.netlink.link("eth0").kind, node.leased()) == (101, "bridge", {})


def _bridge(name):
    return Bridge(name=name, mac="02:00:00:00:00:01")


def test_add_after_the_namespace_was_replaced_starts_afresh(node):
    old = node.pod("web")
    node.call("ADD", old)
    node.vanish(old)
    assert node.call("ADD", node.pod("web"))["exit"] == 0
    assert (node.leased(), len(node.veths())) == ({"web": "10.244.1.3"}, 1)


def test_same_request_twice_is_one_attachment(node):
    pod, request = node.pod("web"), {"PODWIRE_REQUEST": "0123456789abcdef"}
    assert [node.call("ADD", pod, env=request)["exit"] for _ in range(2)] == [0, 0]
    assert (len(node.leased()), len(node.veths())) == (1, 1)


def test_leases_of_an_earlier_boot_are_dropped(node):
    node.call("ADD", node.pod("before"))
    rebooted = FakeNode(node.directory, boot_id="22222222-0000-0000-0000-000000000000")
    rebooted.call("ADD", rebooted.pod("after"))
    assert list(rebooted.leased()) == ["after"]


TINY = {"ranges": [[{"subnet": "10.244.1.0/29"}]], "type": "podwire-ipam"}  # .2 … .6


def test_exhausted_pool_is_told_with_subnet_used_and_size(node):
    for number in range(5):
        node.call("ADD", node.pod(f"p{number}"), ipam=TINY)
    last = node.pod("late")
    answer = node.call("ADD", last, ipam=TINY)
    assert answer["code"] == 100
    assert "10.244.1.0/29 is exhausted: 5 of 5 addresses are in use" in answer["msg"]
    assert (len(node.leased()), len(node.veths()), last.netlink.link("eth0")) == (5, 5, None)


def test_exhausted_pool_takes_back_what_vanished_namespaces_held(node):
    pods = [node.pod(f"p{number}") for number in range(5)]
    for pod in pods:
        node.call("ADD", pod, ipam=TINY)
    node.vanish(pods[2])
    answer = node.call("ADD", node.pod("late"), ipam=TINY)
    assert answer["ips"][0]["address"] == "10.244.1.4/29"


def test_freed_address_is_the_last_to_come_back(node):
    first = node.pod("first")
    node.call("ADD", first, ipam=TINY)
    node.call("DEL", first, ipam=TINY)
    given = [node.call("ADD", node.pod(f"p{n}"), ipam=TINY)["ips"][0]["address"] for n in range(5)]
    assert given == [f"10.244.1.{n}/29" for n in (3, 4, 5, 6, 2)]


def test_sweep_frees_what_nobody_will_delete_and_nothing_else(node):
    kept, gone = node.pod("kept"), node.pod("gone")
    for pod in (kept, gone):
        node.call("ADD", pod)
    node.vanish(gone)
    freed = leftovers.sweep("net", node.directory, node.host())
    assert [str(lease.address) for lease in freed] == ["10.244.1.3"]
    assert node.leased() == {"kept": "10.244.1.2"}


def test_nodes_own_namespace_is_refused_before_anything_is_done(node):
    answer = node.call("ADD", _own(node))
    assert (answer["code"], answer["msg"]) == (8, "plugin's netns and netns from CNI_NETNS should not be the same")
    assert (node.netlink.link("podwire0"), node.directory.exists()) == (None, False)


def test_delete_in_the_nodes_own_namespace_is_refused_when_no_lease_says_otherwise(node):
    assert node.call("DEL", _own(node))["code"] == 8


def test_delete_whose_stale_path_now_is_the_nodes_own_namespace_frees(node):
    pod = node.pod("web")
    node.call("ADD", pod)
    assert node.call("DEL", pod, env={"CNI_NETNS": _own(node).path}) == {"exit": 0}
    assert node.leased() == {}


def _own(node):
    own = Pod("own", node.netlink)
    node.pods[own.path] = own
    return own


def test_missing_namespace_is_code_8_and_leaves_nothing(node):
    pod = node.pod("web")
    node.vanish(pod)
    answer = node.call("ADD", pod)
    assert (answer["code"], node.leased()) == (8, {})
    assert "CNI_NETNS='/run/netns/web'" in answer["msg"]


def test_bridge_name_of_another_device_is_refused(node):
    answer = node.call("ADD", node.pod("web"), bridge="lo")
    assert (answer["code"], node.leased()) == (7, {})
    assert "bridge='lo'" in answer["msg"]


def test_failure_in_the_pod_takes_everything_back(node):
    route = {"dst": "192.0.2.0/24", "gw": "198.51.100.1"}  # no way to this gateway
    ipam = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}]], "routes": [route]}
    answer = node.call("ADD", node.pod("web"), ipam=ipam)
    assert (answer["code"], node.leased(), node.veths()) == (104, {}, [])
    assert "192.0.2.0/24" in answer["msg"]


def test_masquerade_names_every_subnet(node):
    node.call("ADD", node.pod("web"), ipMasq=True)
    assert "{ 10.244.1.0/24 }" in node.loaded[0]


def test_result_is_added_to_that_of_the_plugins_before(node):
    previous = {
        "interfaces": [{"name": "dummy0"}],
        "ips": [{"address": "192.0.2.1/32", "interface": 0}],
        "routes": None,
    }
    answer = node.call("ADD", node.pod("web"), prevResult=previous)
    assert [ip["interface"] for ip in answer["ips"]] == [0, 3]
    assert answer["interfaces"][0] == {"name": "dummy0"}


def test_damaged_lease_file_is_named(node):
    node.directory.mkdir()
    (node.directory / "leases.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    answer = node.call("ADD", node.pod("web"))
    assert answer["code"] == 103
    assert str(node.directory / "leases.db") in answer["msg"]


def test_unexpected_error_is_still_an_error_object(node):
    def broken():
        raise ZeroDivisionError("by zero")

    conf = json.dumps(netconf(node.directory)).encode()
    reply = dispatch.run(environment("ADD", "web", "/run/netns/web"), conf, broken)
    assert json.loads(reply.stdout) == {"cniVersion": "1.0.0", "code": 999, "msg": "ZeroDivisionError: by zero"}
