"""A damaged or lost lease file, made anew from the pods that live on the node's bridge."""

import pytest
from click.testing import CliRunner

from cli.__main__ import main
from ipam.leases import FILE, Leases
from tests import namespaces
from tests.cni_plugin import PluginNode

IPAM = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:244:1::/64"}]]}


@pytest.fixture
def node(tmp_path):
    with namespaces.namespace("node") as place:
        yield PluginNode(place, tmp_path, conf={"ipam": IPAM})


@pytest.fixture
def pods():
    with namespaces.namespace("one") as one, namespaces.namespace("two") as two, namespaces.namespace("three") as three:
        yield one, two, three


def rebuild(node, network="net=podwire0"):
    arguments = ["ipam", "rebuild", "--network", network, "--data-dir", str(node.state)]
    done = node.namespace.call(lambda: CliRunner().invoke(main, arguments))
    return done.exit_code, done.output


def damage(node):
    for log in (node.state / f"{FILE}-wal", node.state / f"{FILE}-shm"):
        log.unlink(missing_ok=True)
    (node.state / FILE).write_bytes(b"\xa5" * 8192)


def addresses(node):
    with Leases(node.state) as leases:
        return sorted(lease.listed for lease in leases.of("net"))


def test_rebuilt_file_has_every_address_of_the_living_and_none_is_given_twice(node, pods):
    for pod in pods[:2]:
        node.call("ADD", pod)
    damage(node)
    assert "podwire ipam rebuild" in node.call("ADD", pods[2])["msg"]
    code, output = rebuild(node)
    assert code == 0, output
    assert addresses(node) == ["10.244.1.2, fd00:244:1::2", "10.244.1.3, fd00:244:1::3"]
    third = node.call("ADD", pods[2])
    assert [ip["address"] for ip in third["ips"]] == ["10.244.1.4/24", "fd00:244:1::4/64"]


def test_lost_file_is_rebuilt_as_well(node, pods):
    node.call("ADD", pods[0])
    for path in node.state.glob(f"{FILE}*"):
        path.unlink()
    assert rebuild(node)[0] == 0
    assert addresses(node) == ["10.244.1.2, fd00:244:1::2"]


def test_add_after_the_file_was_lost_gives_no_address_twice(node, pods):
    node.call("ADD", pods[0])
    for path in node.state.glob(f"{FILE}*"):
        path.unlink()
    second = node.call("ADD", pods[1])
    assert [ip["address"] for ip in second["ips"]] == ["10.244.1.3/24", "fd00:244:1::3/64"]


def test_add_after_the_file_was_lost_is_refused_while_a_pods_addresses_cannot_be_told(node, pods):
    node.call("ADD", pods[0])
    pods[0].run("ip", "address", "flush", "dev", "eth0")
    for path in node.state.glob(f"{FILE}*"):
        path.unlink()
    assert node.call("ADD", pods[1])["code"] == 103


def test_damaged_file_is_kept(node, pods):
    node.call("ADD", pods[0])
    damage(node)
    rebuild(node)
    (kept,) = node.state.glob(f"{FILE}.damaged-*")
    assert kept.read_bytes() == b"\xa5" * 8192


def test_pod_whose_addresses_cannot_be_told_stops_the_rebuilding(node, pods):
    for pod in pods[:2]:
        node.call("ADD", pod)
    pods[1].run("ip", "address", "flush", "dev", "eth0")
    damage(node)
    code, output = rebuild(node)
    assert (code, "cannot be told" in output, any(veth in output for veth in node.veths())) == (1, True, True)
    assert (node.state / FILE).read_bytes() == b"\xa5" * 8192


def test_pod_of_a_network_that_is_not_named_stops_the_rebuilding(node, pods):
    node.call("ADD", pods[0])
    damage(node)
    code, output = rebuild(node, "other=podwire0")
    assert (code, node.veths()[0] in output) == (1, True)


def test_file_that_is_well_is_left_alone(node, pods):
    node.call("ADD", pods[0])
    code, output = rebuild(node)
    assert (code, "nothing to rebuild" in output) == (1, True)


def test_rebuilt_lease_goes_with_its_pod(node, pods):
    result = node.call("ADD", pods[0])
    damage(node)
    rebuild(node)
    assert node.call("DEL", pods[0], prevResult=result)["exit"] == 0
    assert node.veths() == []
    node.call("GC", pods[0], cniVersion="1.1.0")
    assert addresses(node) == []
