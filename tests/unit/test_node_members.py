"""Reading the cluster out of Node objects: what is usable, what is left out, and what is said about it.

Address plan: nodes 192.0.2.1, .2, .3; podCIDRs 10.244.1.0/24, .2.0/24, .3.0/24.
"""

import itertools
from ipaddress import ip_address, ip_network

import pytest

from kube.objects import Node, NodeAddress, NodeSpec, NodeStatus, ObjectMeta
from node.members import Member, read_cluster


def node(name: str, addresses: tuple[str, ...] = (), cidrs: tuple[str, ...] = ()) -> Node:
    listed = tuple(NodeAddress(type="InternalIP", address=address) for address in addresses)
    return Node(
        metadata=ObjectMeta(name=name),
        spec=NodeSpec(pod_cidr=cidrs[0] if cidrs else "", pod_cidrs=cidrs),
        status=NodeStatus(addresses=(NodeAddress(type="Hostname", address=name), *listed)),
    )


ONE = node("one", ("192.0.2.1",), ("10.244.1.0/24",))
TWO = node("two", ("192.0.2.2",), ("10.244.2.0/24",))


def problems(*nodes: Node) -> list[tuple[str, str]]:
    return sorted((problem.node, problem.text) for problem in read_cluster(nodes).problems)


def test_a_member_has_its_internal_addresses_and_podcidrs() -> None:
    expected = Member(name="one", addresses=(ip_address("192.0.2.1"),), pod_cidrs=(ip_network("10.244.1.0/24"),))
    assert read_cluster([ONE]).members == (expected,)


def test_the_address_of_each_family_is_found() -> None:
    member = read_cluster([node("dual", ("192.0.2.1", "2001:db8::1"))]).members[0]
    assert (member.address(4), member.address(6)) == (ip_address("192.0.2.1"), ip_address("2001:db8::1"))


def test_the_singular_podcidr_counts_when_the_plural_is_missing() -> None:
    old = Node(metadata=ObjectMeta(name="old"), spec=NodeSpec(pod_cidr="10.244.1.0/24"))
    assert read_cluster([old]).members[0].pod_cidrs == (ip_network("10.244.1.0/24"),)


def test_a_node_that_says_nothing_is_a_member_without_problems() -> None:
    cluster = read_cluster([node("new")])
    assert (cluster.members, cluster.problems) == ((Member(name="new"),), frozenset())


@pytest.mark.parametrize("address", ["", "192.0.2.256", "one.example", "192.0.2.1/24"])
def test_an_address_that_is_none_is_named_and_ignored(address: str) -> None:
    cluster = read_cluster([node("one", (address, "192.0.2.1"))])
    assert cluster.members[0].addresses == (ip_address("192.0.2.1"),)
    assert [repr(address) in problem.text for problem in cluster.problems] == [True]


@pytest.mark.parametrize("cidr", ["10.244.1.1/24", "10.244.1.0/33", "pods", "10.244.1.0/24/7"])
def test_a_podcidr_that_is_none_is_named_and_ignored(cidr: str) -> None:
    cluster = read_cluster([node("one", (), (cidr,))])
    assert cluster.members[0].pod_cidrs == ()
    assert [repr(cidr) in problem.text for problem in cluster.problems] == [True]


@pytest.mark.parametrize("cidr", ["10.244.1.0/24", "10.244.1.128/25", "10.244.0.0/16"])
def test_a_podcidr_that_overlaps_an_earlier_nodes_is_ignored(cidr: str) -> None:
    cluster = read_cluster([ONE, node("twice", (), (cidr,))])
    assert cluster.member("twice").pod_cidrs == ()
    assert problems(ONE, node("twice", (), (cidr,))) == [
        ("twice", f"its podCIDR {cidr} is ignored: it overlaps that of node one")
    ]


@pytest.mark.parametrize("cidr", ["192.0.2.0/24", "0.0.0.0/0", "192.0.2.1/32"])
def test_a_podcidr_that_would_swallow_a_nodes_address_is_ignored(cidr: str) -> None:
    assert problems(node("one", ("192.0.2.1",)), node("wide", (), (cidr,))) == [
        ("wide", f"its podCIDR {cidr} is ignored: the address of node one lies inside")
    ]


def test_a_wrong_podcidr_costs_nobody_else_theirs() -> None:
    cluster = read_cluster([node("all", (), ("0.0.0.0/0",)), ONE, TWO])
    assert [member.pod_cidrs for member in cluster.members[1:]] == [
        (ip_network("10.244.1.0/24"),),
        (ip_network("10.244.2.0/24"),),
    ]


def test_the_families_do_not_meet() -> None:
    assert problems(node("four", (), ("0.0.0.0/1",)), node("six", ("2001:db8::6",), ("fd00::/64",))) == []


def test_two_nodes_with_one_address_are_reported_with_the_way_out() -> None:
    (found,) = problems(ONE, node("two", ("192.0.2.1",)))
    assert found[0] == "two"
    assert "192.0.2.1 is also that of node one" in found[1]
    assert "--node-ip" in found[1]


def test_the_order_of_nodes_does_not_matter() -> None:
    nodes = [ONE, TWO, node("three", ("192.0.2.1",), ("10.244.0.0/16",)), node("four", ("x",), ("y",))]
    assert len({read_cluster(order) for order in itertools.permutations(nodes)}) == 1


def test_many_nodes_are_told_apart() -> None:
    nodes = [
        node(f"n{n:04}", (f"10.0.{n // 250}.{n % 250}",), (f"10.{100 + n // 256}.{n % 256}.0/24",)) for n in range(5000)
    ]
    cluster = read_cluster(nodes)
    assert (len(cluster.members), cluster.problems) == (5000, frozenset())
    assert all(member.pod_cidrs for member in cluster.members)
