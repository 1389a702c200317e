"""The agent in a cluster of two families: it says both addresses, and keeps routes, forwarding and tables of both.

Address plan: nodes n1 192.0.2.1 and fd00:192:2::1, n2 likewise; podCIDRs 10.244.N.0/24 and fd00:10:244:N::/64; IPv6 is
new to the cluster: it began with IPv4 alone.
"""

import json
from collections.abc import Iterator

import pytest

from tests.node_cluster import Agent, ClusterOfAgents, cluster
from tests.waiting import eventually

DUAL = ("--cluster-cidr", "10.244.0.0/16,fd00:10:244::/56", "--service-cidr", "10.96.0.0/16,fd00:10:96::/112")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterOfAgents]:
    with cluster(tmp_path_factory.mktemp("dual")) as single:
        for name, number in (("n1", 1), ("n2", 2)):
            agent = single.add(name, f"192.0.2.{number}")
            agent.namespace.run("ip", "address", "add", f"fd00:192:2::{number}/64", "dev", "eth0", "nodad")
        eventually(lambda: single.is_ready("n1") and single.is_ready("n2"), within=120)
        first = single.agents["n1"].namespace
        first.run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0", "proto", "ra")
        single.kill_api()
        single.flags = DUAL
        single.start_api()
        eventually(lambda: all(is_dual(single, agent) for agent in single.agents.values()), within=120)
        yield single


def is_dual(made: ClusterOfAgents, agent: Agent) -> bool:
    return len(agent.routes()) == len(agent.routes6()) == 1 and len(addresses(made, agent.name)) == 2


def addresses(made: ClusterOfAgents, name: str) -> list[str]:
    return [each["address"] for each in made.node(name)["status"]["addresses"] if each["type"] == "InternalIP"]


def pod_cidrs(made: ClusterOfAgents, name: str) -> list[str]:
    return made.node(name)["spec"]["podCIDRs"]


def switch(agent: Agent, name: str) -> str:
    return agent.namespace.run("sysctl", "-n", name).strip()


def test_a_node_says_both_addresses_the_one_towards_the_server_first(made: ClusterOfAgents) -> None:
    assert addresses(made, "n1") == ["192.0.2.1", "fd00:192:2::1"]


def test_the_other_nodes_pods_are_routed_in_both_families(made: ClusterOfAgents) -> None:
    v4, v6 = pod_cidrs(made, "n2")
    assert made.agents["n1"].routes() == {f"{v4} via 192.0.2.2 dev eth0"}
    assert made.agents["n1"].routes6() == {f"{v6} via fd00:192:2::2 dev eth0"}


def test_pods_get_an_address_of_each_family(made: ClusterOfAgents) -> None:
    agent = made.agents["n1"]
    ranges = [[{"subnet": cidr}] for cidr in pod_cidrs(made, "n1")]
    eventually(lambda: json.loads(agent.conflist.read_text())["plugins"][0]["ipam"]["ranges"] == ranges)
    assert len(json.loads(agent.conflist.read_text())["plugins"][0]["ipam"]["routes"]) == 2


def test_ipv6_is_forwarded_and_masqueraded(made: ClusterOfAgents) -> None:
    agent = made.agents["n1"]
    eventually(lambda: switch(agent, "net.ipv6.conf.all.forwarding") == "1")
    eventually(lambda: "ip6 podwire-node" in agent.namespace.run("nft", "list", "tables"))


def test_forwarding_does_not_cost_the_node_its_advertised_route(made: ClusterOfAgents) -> None:
    agent = made.agents["n1"]
    eventually(lambda: switch(agent, "net.ipv6.conf.all.forwarding") == "1")
    assert switch(agent, "net.ipv6.conf.eth0.accept_ra") == "2"
    assert "proto ra" in agent.namespace.run("ip", "-6", "route", "show", "default")


def test_a_removed_route_and_table_come_back(made: ClusterOfAgents) -> None:
    agent = made.agents["n1"]
    expected = {f"{pod_cidrs(made, 'n2')[1]} via fd00:192:2::2 dev eth0"}
    eventually(lambda: agent.routes6() == expected)
    eventually(lambda: "ip6 podwire-node" in agent.namespace.run("nft", "list", "tables"))
    agent.namespace.run("ip", "-6", "route", "delete", pod_cidrs(made, "n2")[1])
    agent.namespace.run("nft", "delete", "table", "ip6", "podwire-node")
    eventually(lambda: agent.routes6() == expected)
    eventually(lambda: "ip6 podwire-node" in agent.namespace.run("nft", "list", "tables"))


def test_a_lost_address_of_the_second_family_is_no_more_said(made: ClusterOfAgents) -> None:
    agent = made.agents["n2"]
    agent.namespace.run("ip", "address", "delete", "fd00:192:2::2/64", "dev", "eth0")
    eventually(lambda: addresses(made, "n2") == ["192.0.2.2"])
    agent.namespace.run("ip", "address", "add", "fd00:192:2::2/64", "dev", "eth0", "nodad")
    eventually(lambda: addresses(made, "n2") == ["192.0.2.2", "fd00:192:2::2"])
