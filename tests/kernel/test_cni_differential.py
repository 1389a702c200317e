"""podwire against the reference bridge with host-local: the same configuration, the same kernel and the same answer.

Address plan: pods 10.244.1.0/24 (second range 10.244.2.0/24, IPv6 fd00:10:244:1::/64); outside 192.0.2.2, which knows
no way back to the pods.
"""

import socket

import pytest

from tests.cni_peers import BRIDGE, peers, pod_state, result, state
from tests.namespaces import connect

OUTSIDE, NODE_OUTSIDE = "192.0.2.2", "192.0.2.1"
PORT = 7000
SUBNET = "10.244.1.0/24"
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0")


@pytest.fixture
def pair(tmp_path, make_namespace):
    return peers(tmp_path, make_namespace)


def ranged(**bounds):
    return {"ipam": {"ranges": [[{"subnet": SUBNET, **bounds}]]}}


OPTIONS = {
    "plain": {},
    "isGateway": {"isGateway": True},
    "isDefaultGateway": {"isDefaultGateway": True},
    "isDefaultGateway beside other routes": {
        "isDefaultGateway": True,
        "ipam": {"routes": [{"dst": "198.51.100.0/24"}]},
    },
    "ipMasq": {"isGateway": True, "ipMasq": True},
    "mtu": {"mtu": 1400},
    "hairpinMode": {"hairpinMode": True},
    "route through the gateway": {"isGateway": True, "ipam": {"routes": [{"dst": "0.0.0.0/0"}]}},
    "route through another address": {"ipam": {"routes": [{"dst": "198.51.100.0/24", "gw": "10.244.1.77"}]}},
    "several routes": {"ipam": {"routes": [{"dst": "198.51.100.0/24"}, {"dst": "203.0.113.0/24", "gw": "10.244.1.9"}]}},
    "rangeStart": ranged(rangeStart="10.244.1.50"),
    "rangeEnd": ranged(rangeEnd="10.244.1.3"),
    "rangeStart and rangeEnd": ranged(rangeStart="10.244.1.50", rangeEnd="10.244.1.60"),
    "gateway": {"isGateway": True, **ranged(gateway="10.244.1.254")},
    "gateway that is the first of the range": {
        "isGateway": True,
        **ranged(gateway="10.244.1.20", rangeStart="10.244.1.20"),
    },
    "two ranges": {"ipam": {"ranges": [[{"subnet": SUBNET, "rangeEnd": "10.244.1.2"}, {"subnet": "10.244.2.0/24"}]]}},
    "a small subnet": {"ipam": {"ranges": [[{"subnet": "10.244.1.0/29"}]]}},
    "dns": {"dns": {"nameservers": ["10.96.0.10"], "search": ["svc.cluster.local"], "domain": "cluster.local"}},
    "ranges of the runtime's": {
        "capabilities": {"ipRanges": True},
        "runtimeConfig": {"ipRanges": [[{"subnet": "10.244.2.0/24"}]]},
        "ipam": {"ranges": []},
    },
    "an option of nobody": {"frobnicate": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_same_configuration_makes_the_same_kernel_state_and_results(pair, options):
    seen = []
    for peer in pair:
        answers = [peer.execute("ADD", peer.pod(), peer.conf(**options)) for _ in range(2)]
        seen.append((state(peer), [result(peer, answer) for answer in answers]))
    podwire, reference = seen
    assert podwire == reference
    assert [answer["exit"] for answer in podwire[1]] == [0, 0]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_same_ipam_plugin_makes_the_same_kernel_state_and_results(tmp_path, make_namespace, options):
    seen = []
    for peer in peers(tmp_path, make_namespace, ipam="host-local"):
        conf = peer.conf(**options)
        answers = [peer.execute("ADD", peer.pod(), conf) for _ in range(2)]
        made = (state(peer), [result(peer, answer) for answer in answers])
        gone = peer.execute("DEL", peer.pods[0], conf)
        seen.append((made, gone, state(peer)))
    assert seen[0] == seen[1]


DUAL = {
    "dual stack": {},
    "dual stack, isDefaultGateway": {"isDefaultGateway": True},
    "dual stack, routes": {"ipam": {"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
}


@pytest.mark.parametrize("options", DUAL.values(), ids=DUAL.keys())
def test_two_families_make_the_same_kernel_state_and_results(pair, options):
    ranges = [[{"subnet": SUBNET}], [{"subnet": "fd00:10:244:1::/64"}]]
    seen = []
    for peer in pair:
        conf = peer.conf(**{"isGateway": True, **options, "ipam": {**options.get("ipam", {}), "ranges": ranges}})
        answers = [peer.execute("ADD", peer.pod(), conf) for _ in range(2)]
        seen.append((state(peer), [result(peer, answer) for answer in answers]))
    assert seen[0] == seen[1]
    assert [answer["exit"] for answer in seen[0][1]] == [0, 0]


@pytest.mark.parametrize("version", VERSIONS)
def test_same_version_gives_the_same_result(pair, version):
    podwire, reference = (
        result(peer, peer.execute("ADD", peer.pod(), peer.conf(version, isDefaultGateway=True))) for peer in pair
    )
    assert podwire == reference
    assert podwire["cniVersion"] == version


def test_addresses_come_in_the_same_order_when_some_came_back(pair):
    orders = []
    for peer in pair:
        conf, pods = peer.conf(**ranged(rangeEnd="10.244.1.6")), [peer.pod() for _ in range(5)]
        given = [peer.execute("ADD", pod, conf)["ips"] for pod in pods[:3]]
        peer.execute("DEL", pods[0], conf)
        given += [peer.execute("ADD", pod, conf)["ips"] for pod in pods[3:]]
        orders.append([ips[0]["address"] for ips in given])
    assert orders[0] == orders[1] == [f"10.244.1.{last}/24" for last in (2, 3, 4, 5, 6)]


@pytest.mark.parametrize("options", [OPTIONS["plain"], OPTIONS["ipMasq"], OPTIONS["isDefaultGateway"]])
def test_delete_leaves_the_same(pair, options):
    left = []
    for peer in pair:
        conf = peer.conf(**options)
        kept, gone = peer.pod(), peer.pod()
        for pod in (kept, gone):
            peer.execute("ADD", pod, conf)
        answers = [peer.execute("DEL", gone, conf) for _ in range(2)]
        left.append((state(peer), answers))
    assert left[0] == left[1]
    assert pod_state(pair[0].pods[1])["links"] == []
    assert left[0][1] == [{"exit": 0}, {"exit": 0}]


REQUESTS = {
    "runtimeConfig": ({"runtimeConfig": {"ips": ["10.244.1.77/24"], "mac": "02:00:00:00:00:07"}}, ""),
    "args.cni": ({"args": {"cni": {"ips": ["10.244.1.77/24"], "mac": "02:00:00:00:00:07"}}}, ""),
    "CNI_ARGS": ({}, "IP=10.244.1.77;MAC=02:00:00:00:00:07;IgnoreUnknown=1"),
}


@pytest.mark.parametrize(("options", "arguments"), REQUESTS.values(), ids=REQUESTS.keys())
def test_an_address_and_mac_asked_for_are_given_once(pair, options, arguments):
    seen = []
    for peer in pair:
        conf = peer.conf(capabilities={"ips": True, "mac": True}, **options)
        answers = [peer.execute("ADD", peer.pod(), conf, CNI_ARGS=arguments) for _ in range(2)]
        seen.append(
            (pod_state(peer.pods[0]), result(peer, answers[0]), answers[0]["interfaces"][2]["mac"], answers[1]["exit"])
        )
    assert seen[0] == seen[1]
    assert seen[0][2:] == ("02:00:00:00:00:07", 1)


def check_after(peer, change):
    conf, pod = peer.conf(isGateway=True, ipam={"routes": [{"dst": "198.51.100.0/24", "gw": "10.244.1.1"}]}), peer.pod()
    previous = peer.execute("ADD", pod, conf)
    del previous["exit"]
    for argv in change:
        pod.run(*argv)
    return peer.execute("CHECK", pod, {**conf, "prevResult": previous})["exit"]


CHANGES = {
    "nothing": ((), 0),
    "another address": ((("ip", "address", "add", "192.0.2.77/32", "dev", "eth0"),), 0),
    "no address": ((("ip", "address", "flush", "dev", "eth0"),), 1),
    "no route": ((("ip", "route", "del", "198.51.100.0/24"),), 1),
    "no interface": ((("ip", "link", "del", "eth0"),), 1),
}


@pytest.mark.parametrize(("change", "code"), CHANGES.values(), ids=CHANGES.keys())
def test_check_finds_the_same(pair, change, code):
    assert [check_after(peer, change) for peer in pair] == [code, code]


REFUSED = {
    "no namespace": {"CNI_NETNS": ""},
    "no container id": {"CNI_CONTAINERID": ""},
    "a container id of other characters": {"CNI_CONTAINERID": "a/b"},
    "an interface name too long": {"CNI_IFNAME": "sixteen-letters0"},
    "a command nobody knows": {"CNI_COMMAND": "FROBNICATE"},
}


@pytest.mark.parametrize("variables", REFUSED.values(), ids=REFUSED.keys())
def test_both_refuse_the_same_variables_for_the_same_reason(pair, variables):
    answers = [peer.execute("ADD", peer.pod(), peer.conf(), **variables) for peer in pair]
    assert [(answer["exit"], answer["code"]) for answer in answers] == [(1, 4), (1, 4)]


def test_both_refuse_a_namespace_that_is_not_there(pair):
    answers = [peer.execute("ADD", peer.pod(), peer.conf(), CNI_NETNS="/run/netns/there-is-none") for peer in pair]
    assert [answer["exit"] for answer in answers] == [1, 1]


BROKEN = {
    "a subnet with host bits": ranged(subnet="10.244.1.7/24"),
    "a subnet too small": ranged(subnet="10.244.1.0/31"),
    "rangeStart outside": ranged(rangeStart="10.244.9.1"),
    "rangeEnd before rangeStart": ranged(rangeStart="10.244.1.9", rangeEnd="10.244.1.8"),
    "ranges that overlap": {"ipam": {"ranges": [[{"subnet": SUBNET}, {"subnet": "10.244.1.128/25"}]]}},
    "no ranges": {"ipam": {"ranges": []}},
    "a route that is none": {"ipam": {"routes": [{"dst": "nowhere"}]}},
    "a version nobody knows": {"version": "9.9.9"},
}


@pytest.mark.parametrize("options", BROKEN.values(), ids=BROKEN.keys())
def test_both_refuse_the_same_configurations(pair, options):
    assert [peer.execute("ADD", peer.pod(), peer.conf(**options))["exit"] for peer in pair] == [1, 1]


def seen_client(server, client, address: str) -> str:
    """Connect from one namespace to another; the client's address as the server sees it."""
    with server.call(lambda: socket.create_server(("", PORT))) as listener:
        listener.settimeout(30)
        with client.call(lambda: socket.create_connection((address, PORT), timeout=30)):
            connection, peer = listener.accept()
            connection.close()
            return peer[0]


def test_masquerade_changes_the_same_connections(pair, make_namespace):
    seen = []
    for peer in pair:
        outside = make_namespace("outside")
        connect(peer.node, f"{NODE_OUTSIDE}/24", outside, f"{OUTSIDE}/24", device="uplink")
        conf = peer.conf(isDefaultGateway=True, ipMasq=True)
        pods = [peer.pod(), peer.pod()]
        given = [peer.execute("ADD", pod, conf)["ips"][0]["address"].partition("/")[0] for pod in pods]
        seen.append((seen_client(outside, pods[0], OUTSIDE), seen_client(pods[1], pods[0], given[1])))
    assert seen[0] == seen[1] == (NODE_OUTSIDE, "10.244.1.2")


def test_both_refuse_a_bridge_that_is_none(pair):
    for peer in pair:
        peer.node.run("ip", "link", "add", BRIDGE, "type", "veth", "peer", "name", "other")
        assert peer.execute("ADD", peer.pod(), peer.conf())["exit"] == 1


def test_a_bridge_that_is_there_already_is_used_as_it_is(pair):
    seen = []
    for peer in pair:
        peer.node.run("ip", "link", "add", BRIDGE, "type", "bridge", "ageing_time", "5000")
        peer.execute("ADD", peer.pod(), peer.conf(isGateway=True))
        seen.append(state(peer))
    assert seen[0] == seen[1]
