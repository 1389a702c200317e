"""Pods with an IPv4 and an IPv6 address, on one bridge and through it, with real packets.

The node has podwire0 (10.244.1.1, fd00:244:1::1) and an uplink to `outside` (192.0.2.0/24, 2001:db8::/64), which knows
no way back to the pods.
"""

import pytest

from tests import namespaces
from tests.cni_plugin import PluginNode

IPAM = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:244:1::/64"}]]}


@pytest.fixture
def node(tmp_path):
    with namespaces.namespace("node") as place:
        yield PluginNode(place, tmp_path, conf={"ipam": IPAM})


@pytest.fixture
def pods(node):
    with namespaces.namespace("one") as one, namespaces.namespace("two") as two:
        yield one, two


def ping(source, target):
    source.run("ping", "-n", "-c", "1", "-W", "30", target)


def addresses(answer):
    assert answer["exit"] == 0, answer
    return [ip["address"].split("/")[0] for ip in answer["ips"]]


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_pods_reach_each_other_at_once(node, pods, family):
    _, target = (addresses(node.call("ADD", pod))[family] for pod in pods)
    ping(pods[0], target)


@pytest.mark.parametrize("gateway", ["10.244.1.1", "fd00:244:1::1"])
def test_pod_reaches_its_gateway_at_once(node, pods, gateway):
    node.call("ADD", pods[0])
    ping(pods[0], gateway)


def test_no_address_is_ever_tentative(node, pods):
    node.call("ADD", pods[0])
    assert "tentative" not in pods[0].run("ip", "-6", "address", "show", "dev", "eth0", "scope", "global")
    assert "tentative" not in node.namespace.run("ip", "-6", "address", "show", "dev", "podwire0", "scope", "global")


@pytest.mark.parametrize("target", ["192.0.2.2", "2001:db8::2"])
def test_masqueraded_pod_reaches_a_world_that_does_not_know_it(node, pods, target):
    with namespaces.namespace("outside") as outside:
        namespaces.connect(node.namespace, "192.0.2.1/24", outside, "192.0.2.2/24", device="uplink")
        node.namespace.run("ip", "address", "add", "2001:db8::1/64", "dev", "uplink", "nodad")
        outside.run("ip", "address", "add", "2001:db8::2/64", "dev", "uplink", "nodad")
        node.call("ADD", pods[0], ipMasq=True)
        ping(pods[0], target)


def test_pod_in_a_namespace_where_ipv6_is_switched_off_gets_its_address_nevertheless(node, pods):
    for pod in pods:
        pod.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    _, target = (addresses(node.call("ADD", pod))[1] for pod in pods)
    ping(pods[0], target)


def test_check_passes_after_add_and_names_what_is_lost(node, pods):
    result = node.call("ADD", pods[0])
    assert node.call("CHECK", pods[0], prevResult=result)["exit"] == 0
    pods[0].run("ip", "-6", "address", "flush", "dev", "eth0", "scope", "global")
    assert "eth0 has lost fd00:244:1::2/64" in node.call("CHECK", pods[0], prevResult=result)["details"]


def test_a_hundred_addresses_of_a_64_come_in_order(node, pods):
    wide = {**IPAM, "ranges": [[{"subnet": "fd00:244::/32", "rangeStart": "fd00:244:0:0:1::"}]]}
    answer = node.call("ADD", pods[0], ipam=wide)
    assert addresses(answer) == ["fd00:244:0:0:1::"]
