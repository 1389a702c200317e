"""The text of the agent's nft table.

Address plan: nodes 192.0.2.1 and .2; podCIDRs 10.244.1.0/24 and .2.0/24.
"""

import itertools
from ipaddress import ip_address, ip_network

from node import masquerade
from node.members import Cluster, Member


def member(name: str, address: str, *cidrs: str) -> Member:
    return Member(name=name, addresses=(ip_address(address),), pod_cidrs=tuple(map(ip_network, cidrs)))


ONE = member("one", "192.0.2.1", "10.244.1.0/24")
TWO = member("two", "192.0.2.2", "10.244.2.0/24")

GOLDEN = """\
table ip podwire-node {
	set pods {
		type ipv4_addr
		flags interval
		comment "the pods of this node"
		elements = { 10.244.1.0/24 }
	}

	set cluster {
		type ipv4_addr
		flags interval
		comment "pods and addresses of all nodes, and groups"
		elements = { 10.244.1.0/24, 10.244.2.0/24, 192.0.2.1, 192.0.2.2, 224.0.0.0/4, 255.255.255.255 }
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr @pods ip daddr != @cluster masquerade fully-random comment "pods to the outside"
	}
}
"""


def test_the_table_of_a_two_node_cluster() -> None:
    assert masquerade.render(Cluster(members=(ONE, TWO)), "one") == GOLDEN


def test_without_a_podcidr_nothing_is_masqueraded() -> None:
    text = masquerade.render(Cluster(members=(member("one", "192.0.2.1"),)), "one")
    assert 'comment "the pods of this node"\n\t}' in text


def test_what_lies_inside_another_network_is_left_out() -> None:
    inside = member("two", "10.244.1.7", "10.244.1.0/24", "10.244.1.128/25")
    text = masquerade.render(Cluster(members=(inside,)), "one")
    assert "{ 10.244.1.0/24, 224.0.0.0/4, 255.255.255.255 }" in text


def test_ipv6_stays_out_of_an_ipv4_table() -> None:
    assert "2001" not in masquerade.render(Cluster(members=(member("six", "2001:db8::1", "2001:db8:1::/64"),)), "six")


def test_the_order_of_members_does_not_matter() -> None:
    orders = itertools.permutations((ONE, TWO, member("three", "192.0.2.3", "10.244.3.0/24")))
    assert len({masquerade.render(Cluster(members=order), "one") for order in orders}) == 1


def test_a_listing_with_other_line_breaks_is_the_same_table() -> None:
    assert masquerade.is_listed_as(GOLDEN, GOLDEN.replace("10.244.2.0/24, ", "10.244.2.0/24,\n\t\t\t     "))


def test_a_listing_with_another_element_is_another_table() -> None:
    assert not masquerade.is_listed_as(GOLDEN, GOLDEN.replace("192.0.2.2", "192.0.2.3"))


def test_the_table_of_ipv6_holds_ipv6() -> None:
    six = member("six", "2001:db8::1", "2001:db8:1::/64", "10.244.6.0/24")
    text = masquerade.render(Cluster(members=(six,)), "six", masquerade.TABLE6)
    assert "ip6 saddr @pods ip6 daddr != @cluster masquerade" in text
    assert "elements = { 2001:db8::1, 2001:db8:1::/64, fe80::/10, ff00::/8 }" in text
