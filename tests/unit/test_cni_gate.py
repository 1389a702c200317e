"""Gates of pods on a node in memory: put up before the port, taken away after it, missed by CHECK, collected by GC."""

import pytest

from cni import gate, gate_table, wiring
from dataplane.nft.fake import FakeNft
from dataplane.nft.interface import LoadFailed
from dataplane.nft.objects import DeleteElements, Limit
from ipam.leases import FILE, Leases
from node.gates import Gates
from tests.cni_node import FakeNode

CHECKED = {"sourceCheck": True}
LIMITED = {
    "runtimeConfig": {
        "bandwidth": {"ingressRate": 8000, "ingressBurst": 16000, "egressRate": 80000, "egressBurst": 160000}
    }
}


@pytest.fixture
def node(tmp_path) -> FakeNode:
    return FakeNode(tmp_path / "state")


def entries(node: FakeNode) -> dict[str, int]:
    return {name: len(elements) for name, elements in gate_table.standing(node.gates).items() if elements}


def check(node: FakeNode, pod, answer, **changes):
    previous = {key: value for key, value in answer.items() if key != "exit"}
    return node.call("CHECK", pod, prevResult=previous, **changes)


def test_pod_without_a_check_or_limit_has_no_entry(node):
    node.call("ADD", node.pod("web"))
    assert (node.gated(), node.gates.loaded) == (set(), [])


def test_checked_pod_has_its_mac_and_addresses(node):
    answer = node.call("ADD", node.pod("web"), **CHECKED)
    assert node.gated() == {answer["interfaces"][1]["name"]}
    assert entries(node) == {"guards": 1, "macs": 1, "sources": 1, "sources6": 1, "targets6": 1}


def test_check_of_the_mac_alone_is_another_chain(node):
    node.call("ADD", node.pod("web"), macspoofchk=True)
    [guard] = node.gates.elements("guards")
    assert guard.value.chain == "check-mac"


def test_limits_are_bytes_from_bits_by_direction(node):
    node.call("ADD", node.pod("web"), **LIMITED)
    [to_pod], [from_pod] = node.gates.elements("to-pods"), node.gates.elements("from-pods")
    assert (to_pod.limit, from_pod.limit) == (Limit(1000, 2000), Limit(10000, 20000))


@pytest.mark.parametrize(
    ("bandwidth", "named"),
    [
        ({"ingressRate": 1000}, "runtimeConfig.bandwidth.ingressBurst=0"),
        ({"egressBurst": 1000}, "runtimeConfig.bandwidth.egressRate=0"),
        ({"egressRate": 7, "egressBurst": 1000}, "runtimeConfig.bandwidth.egressRate=7"),
        ({"ingressRate": 1000, "ingressBurst": 8 << 32}, "runtimeConfig.bandwidth.ingressBurst=34359738368"),
        ({"ingressRate": -1}, "runtimeConfig.bandwidth.ingressRate=-1"),
        ({"ingressRate": "1M"}, "runtimeConfig.bandwidth.ingressRate='1M'"),
    ],
)
def test_limit_that_cannot_be_kept_is_refused_and_named(node, bandwidth, named):
    answer = node.call("ADD", node.pod("web"), runtimeConfig={"bandwidth": bandwidth})
    assert (answer["code"], named in answer["msg"], node.leased()) == (7, True, {})


@pytest.mark.parametrize("changes", [CHECKED, LIMITED, {**CHECKED, "runtimeConfig": {"mac": "02:00:00:00:00:09"}}])
def test_delete_takes_every_entry_away_and_no_other_pods(node, changes):
    kept, gone = node.pod("kept"), node.pod("gone")
    veth = node.call("ADD", kept, **CHECKED)["interfaces"][1]["name"]
    before = entries(node)
    node.call("ADD", gone, **changes)
    assert node.call("DEL", gone) == {"exit": 0}
    assert (node.gated(), entries(node)) == ({veth}, before)


def test_port_exists_only_while_its_gate_does(node):
    pod = node.pod("web")
    steps = []
    create, delete = node.netlink.create_veth, node.netlink.delete_link

    def watched(name, function):
        def call(*args):
            steps.append((name, bool(node.gated())))
            return function(*args)

        return call

    node.netlink.create_veth, node.netlink.delete_link = watched("create", create), watched("delete", delete)
    node.call("ADD", pod, **CHECKED)
    node.call("DEL", pod)
    assert steps[-2:] == [("create", True), ("delete", True)]


def test_delete_after_the_lease_file_was_lost_takes_every_entry_away(node):
    pod = node.pod("web")
    node.call("ADD", pod, **CHECKED)
    (node.directory / FILE).unlink()
    assert node.call("DEL", pod) == {"exit": 0}
    assert (node.gated(), node.veths()) == (set(), [])


def test_add_replaces_what_an_earlier_pod_of_the_name_left(node):
    pod = node.pod("web")
    node.call("ADD", pod, **CHECKED)
    (node.directory / FILE).unlink()
    node.vanish(pod)
    node.call("ADD", node.pod("web"), **CHECKED, runtimeConfig={"ips": ["10.244.1.9"]})
    [source] = node.gates.elements("sources")
    assert source.key[16:] == bytes([10, 244, 1, 9])


@pytest.mark.parametrize("lost", gate.SETS[:6])
def test_check_names_an_entry_that_is_gone(node, lost):
    pod, changes = node.pod("web"), {**CHECKED, **LIMITED}
    answer = node.call("ADD", pod, **changes)
    node.gates.commit([DeleteElements(lost, node.gates.elements(lost))])
    found = check(node, pod, answer, **changes)
    assert (found["code"], f"has lost its entry in {lost}" in found["details"]) == (102, True)


def test_gc_takes_away_what_no_lease_accounts_for(node):
    node.call("ADD", node.pod("lost"), **CHECKED)
    (node.directory / FILE).unlink()
    kept = node.pod("kept")
    veth = node.call("ADD", kept, **CHECKED, name="other")["interfaces"][1]["name"]
    answer = node.call("GC", kept, cniVersion="1.1.0", **{"cni.dev/valid-attachments": []})
    assert (answer, node.gated()) == ({"exit": 0}, {veth})


def test_failed_add_leaves_no_entry(node):
    route = {"dst": "192.0.2.0/24", "gw": "198.51.100.1"}  # no way to this gateway
    ipam = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}]], "routes": [route]}
    assert node.call("ADD", node.pod("web"), ipam=ipam, **CHECKED)["code"] == 104
    assert node.gated() == set()


def test_link_local_address_follows_from_the_mac():
    assert str(gate.link_local("0a:58:0a:f4:01:02")) == "fe80::858:aff:fef4:102"


class WithoutBridges(FakeNft):
    """A kernel without nf_tables for bridges."""

    def load(self, ruleset):
        raise LoadFailed("load nft text", detail="Operation not supported")


@pytest.mark.parametrize("changes", [CHECKED, LIMITED])
def test_kernel_without_nf_tables_for_bridges_is_told_and_nothing_is_left(node, changes):
    node.gates = WithoutBridges(gate.TABLE)
    answer = node.call("ADD", node.pod("web"), **changes)
    assert (answer["code"], "CONFIG_NF_TABLES_BRIDGE" in answer["msg"]) == (104, True)
    assert (node.leased(), node.veths()) == ({}, [])


def test_agent_connects_pods_without_a_check_where_none_is_possible(node):
    node.gates = WithoutBridges(gate.TABLE)
    found = Gates("net", node.directory, node.host())
    node.call("ADD", node.pod("web"))
    found.sync()
    assert not found.are_possible()


def test_agent_sees_that_checks_are_possible(node):
    assert Gates("net", node.directory, node.host()).are_possible()


def test_what_is_restored_keeps_its_limits(node):
    answer = node.call("ADD", node.pod("web"), **LIMITED)
    [guard], before = node.gates.elements("guards"), node.gates.elements("to-pods")
    assert guard.value.kind == "accept"
    with Leases(node.directory) as leases:
        [lease] = leases.of("net")
    gate_table.restore(node.gates, wiring.gate(lease, gate.Check.SOURCE))
    [guard] = node.gates.elements("guards")
    assert (guard.value.chain, node.gates.elements("to-pods")) == ("check-source", before)
    assert node.gated() == {answer["interfaces"][1]["name"]}
