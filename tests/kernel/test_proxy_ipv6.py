"""IPv6: every way in and every policy with real packets, as in IPv4.

The node, its pods and the clients are those of tests/service_node.py with the addresses of IPV6. In the tables `own` is the
client's own address, `node` one of the node's.
"""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from tests import service_node
from tests.address_plan import IPV6
from tests.packet_cases import ALL, EXTERNAL, PLACES
from tests.service_node import ServiceNode, ask_udp, packets_until_refused
from tests.services import endpoint_slice, service
from tests.ways_in import BOTH_NODE, BOTH_OWN, meet, meet_everywhere, meets

SIX = PLACES["IPv6"]
WEB, NODE, web = SIX.cluster_ip, IPV6.node, SIX.web
A, B = IPV6.pods["a"], IPV6.pods["b"]
HERE, THERE = SIX.a, SIX.far
EVERYBODY = ("client", "node", "outside")


@pytest.fixture(scope="module")
def shared() -> Iterator[ServiceNode]:
    with service_node.service_node(IPV6) as made:
        yield made


@pytest.fixture
def node(shared: ServiceNode) -> Iterator[ServiceNode]:
    yield shared
    shared.clear()
    shared.restart()


def dns(*endpoints) -> tuple:
    ports, targets = [(53, "dns", "UDP", 30053)], [(8080, "dns", "UDP")]
    made = service("dns", IPV6.service_ip(53), type="NodePort", ports=ports)
    return made, endpoint_slice("dns", endpoints, ports=targets)


# internal policy, external policy, client, frontends, what it meets
MATRIX = [
    ("Cluster", "Cluster", "client", ["cluster"], BOTH_OWN),
    ("Cluster", "Cluster", "client", EXTERNAL, BOTH_NODE),
    ("Cluster", "Cluster", "node", ALL, BOTH_NODE),
    ("Cluster", "Cluster", "outside", ALL, BOTH_NODE),
    ("Cluster", "Local", "client", ALL, BOTH_OWN),
    ("Cluster", "Local", "node", ALL, BOTH_NODE),
    ("Cluster", "Local", "outside", EXTERNAL, {"a own"}),
    ("Local", "Cluster", "client", ["cluster"], {"a own"}),
    ("Local", "Cluster", "outside", EXTERNAL, BOTH_NODE),
    ("Local", "Local", "outside", EXTERNAL, {"a own"}),
]


@pytest.mark.parametrize(
    ("internal", "external", "client", "fronts", "expected"),
    MATRIX,
    ids=[f"{row[0]}-{row[1]}-{row[2]}-{'+'.join(row[3])}" for row in MATRIX],
)
def test_who_answers_and_which_source_is_seen(node, internal, external, client, fronts, expected):
    node.put(*web(HERE, THERE, internal=internal, external=external))

    assert {front: meets(node, client, front) for front in fronts} == dict.fromkeys(fronts, expected)


def test_connections_are_answered_in_strict_turn(node):
    node.put(*web(HERE, SIX.b, THERE))
    answered = [answer.split()[0] for answer in node.asks("client", 9, WEB)]

    assert answered == answered[:3] * 3
    assert set(answered) == {"a", "b", "remote"}


def test_a_pod_reaches_itself_through_every_frontend(node):
    node.put(*web(HERE, external="Local"))

    assert {front: meet(node, "a", front) for front in ALL} == dict.fromkeys(ALL, "a node")


def test_where_nobody_is_clients_are_refused_at_once_each_time(node):
    node.put(*web())

    packets = node.inside("client", lambda: [packets_until_refused(WEB, 80) for _ in range(50)])

    assert meet_everywhere(node, EVERYBODY, ALL) == {"refused"}
    assert packets == [1] * 50


def test_where_nobody_is_here_external_clients_are_dropped(node):
    node.put(*web(THERE, external="Local"))

    assert meet_everywhere(node, ["outside"], EXTERNAL, is_silent=True) == {"dropped"}
    assert meet(node, "client", "lb") == "remote own"


def test_other_ports_and_pings_of_a_cluster_ip_are_refused(node):
    node.put(*web(HERE))
    pinged = node.pods["client"].run("ping", "-6", "-c1", "-W30", WEB, check=False)

    assert node.is_refused_at_once("client", WEB, 81)
    assert "Port unreachable" in pinged


def test_an_unallocated_cluster_ip_is_dropped(node):
    node.put(*web(HERE))

    assert node.is_ignored("client", IPV6.service_ip(99), 8080)


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        (["2001:db8::/64"], "a own"),
        (["2001:db8:9::/48"], "dropped"),
        (["192.0.2.0/24"], "dropped"),
        (["::/0"], "a own"),
    ],
    ids=["one that has it", "another", "the other family's only", "everybody"],
)
def test_source_ranges_are_for_the_load_balancer_alone(node, ranges, expected):
    node.put(*web(HERE, external="Local", load_balancer_source_ranges=tuple(ranges)))

    assert meet(node, "outside", "lb", is_silent=expected == "dropped") == expected
    assert meet(node, "outside", "external") == "a own"


def test_node_ports_at_all_addresses(node):
    node.look(nodeport_addresses=(ip_network("::/0"),))
    node.put(*web(HERE))

    assert [node.ask("client", address, 30080).split()[0] for address in (NODE, IPV6.gateway)] == ["a", "a"]


def test_a_node_port_follows_the_address_of_the_node(node):
    node.put(*web(HERE))
    gateway = IPV6.gateway
    node.look(addresses=(ip_address(gateway),), nodeport_addresses=(ip_network(gateway),))

    assert node.ask("client", gateway, 30080)
    assert node.is_refused_at_once("client", NODE, 30080)


def test_udp_is_served_and_its_flows_follow_the_endpoints(node):
    node.put(*dns(A, B))
    with node.udp_socket("client") as opened:
        first = ask_udp(opened, IPV6.service_ip(53), 53).split()[0]
        node.put(*dns({"a": B, "b": A}[first]))

        assert ask_udp(opened, IPV6.service_ip(53), 53).split()[0] != first


def test_udp_node_ports_are_served(node):
    node.put(*dns(A))
    with node.udp_socket("outside") as opened:
        assert ask_udp(opened, NODE, 30053).startswith("a ")


def test_every_way_in_is_listed_loads_back_and_survives_a_restart(node):
    ranges = ("2001:db8::/64", "2001:db8:9::1/128")
    node.put(*web(HERE, THERE, internal="Local", external="Local", load_balancer_source_ranges=ranges, affinity=60))
    node.put(service("none", IPV6.service_ip(11), ports=[(80, "http", "TCP", 30081)], external_ips=(IPV6.external(9),)))
    node.sweep()
    generation = node.nft.generation()
    node.restart()
    node.sweep()

    node.node.run("nft", "-c", "-f", "-", stdin=node.node.run("nft", "list", "ruleset"))
    assert node.nft.generation() == generation


def test_a_table_of_another_version_is_replaced_with_every_way_in(node):
    node.put(*web(HERE, THERE, internal="Local", external="Local", load_balancer_source_ranges=("2001:db8::/64",)))
    names = ("outside", "nodeports", "allowed-sources", "keep-source", "endpoints", "ring")
    before = {name: set(node.nft.elements(name)) for name in names}
    node.node.run("nft", "add rule ip6 podwire-proxy refuse accept")
    node.restart()

    assert {name: set(node.nft.elements(name)) for name in names} == before
    assert meet(node, "outside", "lb") == "a own"
