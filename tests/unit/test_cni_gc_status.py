"""GC and STATUS on a node in memory: what is removed, what never is, and what an operator reads when addresses run out."""

import pytest

from dataplane.errors import DataplaneError
from ipam.leases import Leases
from tests.cni_node import FakeNode

V = {"cniVersion": "1.1.0"}
TINY = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/29"}]]}  # .2 … .6


@pytest.fixture
def node(tmp_path) -> FakeNode:
    return FakeNode(tmp_path / "state")


@pytest.fixture
def pods(node):
    pods = {name: node.pod(name) for name in ("kept", "stale")}
    for pod in pods.values():
        node.call("ADD", pod, **V)
    return pods


def valid(*names):
    return {"cni.dev/valid-attachments": [{"containerID": name, "ifname": "eth0"} for name in names]}


def collect(node, pod, **changes):
    return node.call("GC", pod, **V, **changes)


def test_what_is_not_valid_goes_and_what_is_valid_stays(node, pods):
    assert collect(node, pods["kept"], **valid("kept")) == {"exit": 0}
    assert (node.leased(), len(node.veths())) == ({"kept": "10.244.1.2"}, 1)
    assert pods["stale"].netlink.link("eth0") is None


def test_an_empty_list_makes_everything_stale(node, pods):
    collect(node, pods["kept"], **valid())
    assert (node.leased(), node.veths()) == ({}, [])


@pytest.mark.parametrize("absent", [{}, {"cni.dev/valid-attachments": None}], ids=["no key", "null"])
def test_a_missing_list_touches_no_living_pod(node, pods, absent):
    collect(node, pods["kept"], **absent)
    assert sorted(node.leased()) == ["kept", "stale"]


def test_a_missing_list_still_removes_what_vanished(node, pods):
    node.vanish(pods["stale"])
    collect(node, pods["kept"])
    assert list(node.leased()) == ["kept"]


def test_the_older_name_of_the_list_is_read_when_it_stands_alone(node, pods):
    collect(node, pods["kept"], **{"cni.dev/attachments": valid("kept")["cni.dev/valid-attachments"]})
    assert list(node.leased()) == ["kept"]


def test_an_interface_of_the_same_container_that_is_not_listed_is_stale(node, pods):
    node.call("ADD", pods["kept"], env={"CNI_IFNAME": "net1"}, **V)
    collect(node, pods["kept"], **valid("kept"))
    assert (len(node.veths()), pods["kept"].netlink.link("net1")) == (1, None)


def test_another_network_in_the_same_file_and_on_the_same_bridge_is_left_alone(node, pods):
    other = node.pod("other")
    node.call("ADD", other, name="second", **V)
    collect(node, pods["kept"], **valid())
    assert other.netlink.link("eth0") is not None
    with Leases(node.directory) as leases:
        assert len(leases.of("second")) == 1


def test_veths_whose_leases_were_lost_are_found_by_their_network(node, pods):
    other = node.pod("other")
    node.call("ADD", other, name="second", **V)
    (node.directory / "leases.db").unlink()
    collect(node, pods["kept"], **valid("kept"))
    wired = [pod.netlink.link("eth0") is not None for pod in (pods["kept"], pods["stale"], other)]
    assert wired == [True, False, True]


def test_one_that_cannot_be_removed_stops_no_other_and_is_named(node, pods):
    host, stuck = node.host(), node.netlink.delete_link
    (first, _) = sorted(node.veths())

    def refuse_one(name):
        if name == first:
            raise DataplaneError(f"delete link {name}", 16)
        stuck(name)

    node.netlink.delete_link = refuse_one
    answer = node.call("GC", pods["kept"], host=host, **V, **valid())
    assert (answer["code"], first in answer["details"], node.veths()) == (11, True, [first])


def test_gc_may_be_repeated_after_its_configuration_was_broken(node, pods):
    assert [collect(node, pods["kept"], ipam=None, mtu="?", **valid())["exit"] for _ in range(2)] == [0, 0]


def test_status_is_silent_while_there_are_addresses(node):
    assert node.call("STATUS", node.pod("any"), **V) == {"exit": 0}


def test_status_tells_an_exhausted_pool_before_an_add_fails(node):
    for number in range(5):
        assert node.call("STATUS", node.pod("any"), ipam=TINY, **V) == {"exit": 0}
        node.call("ADD", node.pod(f"p{number}"), ipam=TINY, **V)
    answer = node.call("STATUS", node.pod("any"), ipam=TINY, **V)
    assert (answer["code"], "10.244.1.0/29 is exhausted: 5 of 5" in answer["msg"]) == (50, True)


def test_status_counts_what_an_add_would_take_back(node):
    pods = [node.pod(f"p{number}") for number in range(5)]
    for pod in pods:
        node.call("ADD", pod, ipam=TINY, **V)
    node.vanish(pods[0])
    assert node.call("STATUS", node.pod("any"), ipam=TINY, **V) == {"exit": 0}
    assert len(node.leased()) == 5


def test_status_warns_while_the_last_addresses_of_a_large_pool_are_left(node):
    small = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/26"}]]}  # 61 to give, 3 in reserve
    for number in range(58):
        node.call("ADD", node.pod(f"p{number}"), ipam=small, **V)
    answer = node.call("STATUS", node.pod("any"), ipam=small, **V)
    assert (answer["code"], "nearly exhausted, 58 of 61" in answer["msg"]) == (50, True)


def test_status_names_a_lease_file_that_cannot_be_read(node):
    node.directory.mkdir()
    (node.directory / "leases.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    answer = node.call("STATUS", node.pod("any"), **V)
    assert (answer["code"], "leases.db" in answer["details"]) == (50, True)


def test_status_names_a_bridge_that_is_none(node):
    answer = node.call("STATUS", node.pod("any"), bridge="lo", **V)
    assert (answer["code"], "bridge='lo'" in answer["msg"]) == (50, True)
