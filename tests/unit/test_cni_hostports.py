"""hostPorts on a node in memory: who gets a port, who is refused with whose name, and that none outlives its pod."""

import errno
from ipaddress import IPv4Address

import pytest

from dataplane.conntrack import Flow
from dataplane.errors import DataplaneError
from tests.cni_node import FakeNode

V = {"cniVersion": "1.1.0"}
ANY_8080 = "060000001f900000"
NODE = IPv4Address("10.244.1.1")  # the bridge's address is one of the node's


@pytest.fixture
def node(tmp_path) -> FakeNode:
    return FakeNode(tmp_path / "state")


def mapped(port=8080, *, to=80, protocol="tcp", ip=""):
    mapping = {"hostPort": port, "containerPort": to, "protocol": protocol, "hostIP": ip}
    return {"runtimeConfig": {"portMappings": [mapping]}}


def test_a_port_is_published_with_its_owner(node):
    answer = node.call(
        "ADD", node.pod("web"), env={"CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1"}, **mapped()
    )
    comment = f"{answer['interfaces'][1]['name']} net shop/web-1"
    assert node.ports() == {ANY_8080: comment, "0af401020af40102": comment}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (mapped(), mapped(to=81)),
        (mapped(), mapped(ip="192.0.2.1")),
        (mapped(ip="192.0.2.1"), mapped(ip="0.0.0.0")),
        (mapped(ip="192.0.2.1"), mapped(ip="192.0.2.1")),
        (mapped(protocol="udp"), mapped(protocol="UDP")),
    ],
    ids=["both every address", "one address later", "one address before", "the same address", "udp"],
)
def test_two_pods_never_share_a_port_and_the_owner_is_named(node, first, second):
    node.call("ADD", node.pod("first"), **first)
    before = node.ports()
    answer = node.call("ADD", node.pod("second"), **second)
    assert (answer["code"], "is taken by first/eth0 on network net" in answer["msg"]) == (106, True)
    assert (node.ports(), list(node.leased()), len(node.veths())) == (before, ["first"], 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (mapped(), mapped(8081)),
        (mapped(), mapped(protocol="sctp")),
        (mapped(ip="192.0.2.1"), mapped(ip="192.0.2.2")),
    ],
    ids=["port", "protocol", "address"],
)
def test_ports_that_never_meet_are_both_given(node, first, second):
    answers = [node.call("ADD", node.pod(name), **ports)["exit"] for name, ports in (("a", first), ("b", second))]
    assert answers == [0, 0]


def test_a_port_is_refused_across_networks(node):
    node.call("ADD", node.pod("first"), **mapped())
    answer = node.call("ADD", node.pod("second"), name="other", **mapped())
    assert "first/eth0 on network net" in answer["msg"]


def test_delete_withdraws_even_without_lease_and_namespace(node):
    pod = node.pod("web")
    node.call("ADD", pod, **mapped())
    node.vanish(pod)
    (node.directory / "leases.db").unlink()
    assert (node.call("DEL", pod), node.ports()) == ({"exit": 0}, {})


def test_delete_leaves_the_ports_of_others(node):
    node.call("ADD", node.pod("kept"), **mapped())
    gone = node.pod("gone")
    node.call("ADD", gone, **mapped(9090))
    before = node.ports()
    node.call("DEL", gone)
    assert set(before) - set(node.ports()) == {"0600000023820000", "0af401030af40103"}


def test_a_vanished_pods_port_goes_to_the_next_who_asks(node):
    pod = node.pod("gone")
    node.call("ADD", pod, **mapped())
    node.vanish(pod)
    assert node.call("ADD", node.pod("next"), **mapped())["exit"] == 0
    assert node.ports()[ANY_8080].endswith("next/eth0")


def test_gc_withdraws_of_this_network_only(node):
    node.call("ADD", node.pod("kept"), **V, **mapped(1))
    node.call("ADD", node.pod("stale"), **V, **mapped(2))
    node.call("ADD", node.pod("other"), name="second", **V, **mapped(3))
    (node.directory / "leases.db").unlink()
    node.call("GC", node.pod("any"), **V, **{"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]})
    owners = {comment.split()[-1] for comment in node.ports().values()}
    assert owners == {"kept/eth0", "other/eth0"}


def test_check_tells_a_port_that_leads_elsewhere(node):
    pod = node.pod("web")
    answer = node.call("ADD", pod, **mapped())
    del answer["exit"]
    assert node.call("CHECK", pod, prevResult=answer, **mapped()) == {"exit": 0}
    node.nft.delete_table()
    refused = node.call("CHECK", pod, prevResult=answer, **mapped())
    assert (refused["code"], "*:8080/tcp" in refused["details"]) == (102, True)


def test_a_failure_after_publishing_withdraws(node):
    refusals = [DataplaneError("list UDP flows", errno.ENOBUFS)]

    def udp_flows(version):
        if refusals:
            raise refusals.pop()
        return ()

    node.flows.udp_flows = udp_flows
    assert node.call("ADD", node.pod("web"), **mapped(protocol="udp"))["code"] == 104
    assert (node.leased(), node.veths(), node.ports()) == ({}, [], {})


def flow(destination, port, replier):
    return Flow(IPv4Address(destination), port, IPv4Address(replier), port, b"")


def test_udp_flows_that_went_elsewhere_are_forgotten_and_no_others(node):
    ours, transit = flow("10.244.1.1", 53, "10.244.1.1"), flow("192.0.2.53", 53, "192.0.2.53")
    other = flow("10.244.1.1", 54, "10.244.1.1")
    node.flows.held = [ours, transit, other]
    node.call("ADD", node.pod("dns"), **mapped(53, to=53, protocol="udp"))
    assert node.flows.held == [transit, other]


def test_udp_flows_to_a_pod_are_forgotten_with_it(node):
    pod = node.pod("dns")
    node.call("ADD", pod, **mapped(53, to=53, protocol="udp"))
    kept = flow("10.244.1.1", 53, "10.244.1.9")
    node.flows.held = [flow("10.244.1.1", 53, "10.244.1.2"), kept]
    node.call("DEL", pod)
    assert node.flows.held == [kept]


@pytest.mark.parametrize(
    ("mapping", "code", "named"),
    [
        ({"hostPort": 70000, "containerPort": 80}, 7, "portMappings[0].hostPort=70000"),
        ({"hostPort": 80}, 7, "portMappings[0].containerPort=0"),
        ({"hostPort": 80, "containerPort": 80, "protocol": "icmp"}, 7, "portMappings[0].protocol='icmp'"),
        ({"hostPort": 80, "containerPort": 80, "hostIP": "here"}, 7, "portMappings[0].hostIP='here'"),
        ({"hostPort": 80, "containerPort": 80, "hostIP": "127.0.0.1"}, 2, "portMappings[0].hostIP='127.0.0.1'"),
        ({"hostPort": "80", "containerPort": 80}, 7, "portMappings[0].hostPort='80'"),
    ],
)
def test_a_bad_mapping_is_named(node, mapping, code, named):
    answer = node.call("ADD", node.pod("web"), runtimeConfig={"portMappings": [mapping]})
    assert (answer["code"], named in answer["msg"], node.ports()) == (code, True, {})


def test_one_port_to_two_of_the_same_pod_is_refused(node):
    mappings = [{"hostPort": 80, "containerPort": to} for to in (80, 81)]
    answer = node.call("ADD", node.pod("web"), runtimeConfig={"portMappings": mappings})
    assert (answer["code"], "mapped twice" in answer["msg"]) == (7, True)


@pytest.mark.parametrize("mapping", [{"containerPort": 80}, {"hostPort": 80, "containerPort": 80, "hostIP": "::1234"}])
def test_what_asks_for_no_ipv4_port_publishes_nothing(node, mapping):
    answer = node.call("ADD", node.pod("web"), runtimeConfig={"portMappings": [mapping]})
    assert (answer["exit"], node.ports()) == (0, {})
