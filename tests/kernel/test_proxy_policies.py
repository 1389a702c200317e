"""Every way into a Service with real packets: who answers, with which source address, who is refused or dropped.

The node, its pods and the clients are those of tests/service_node.py: `client` and `a` are pods of this node, `remote`
(10.244.2.6) is a pod of another, `outside` (192.0.2.2) is no part of the cluster, `node` is the node itself. One Service:

    10.96.0.10 cluster IP · 203.0.113.1 externalIP · 203.0.113.2 load balancer · 192.0.2.1:30080 node port

Endpoints: `a` on this node, `remote` on another. In the tables `own` is the client's own address, `node` one of the node's.
"""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from kube import objects
from proxy.sync import RESYNC
from tests import service_node
from tests.packet_cases import ALL, EXTERNAL, LEAVING, PLACES
from tests.service_node import GATEWAY, NODE, OUTSIDE, PODS, ServiceNode, ask_udp
from tests.services import endpoint_slice, service
from tests.ways_in import BOTH_NODE, BOTH_OWN, meet, meet_everywhere, meets

FOUR = PLACES["IPv4"]
# As a hostPort.
OTHERS = f"""table ip others {{
	chain prerouting {{
		type nat hook prerouting priority dstnat;
		tcp dport 30080 dnat to {PODS["a"]}:8080
	}}
}}
"""
CLUSTER_IP, BALANCER, web = FOUR.cluster_ip, FOUR.balancer, FOUR.web
HERE, THERE = FOUR.a, FOUR.far


@pytest.fixture(scope="module")
def shared() -> Iterator[ServiceNode]:
    with service_node.service_node() as made:
        yield made


@pytest.fixture
def node(shared: ServiceNode) -> Iterator[ServiceNode]:
    yield shared
    shared.clear()
    shared.restart()


# internal policy, external policy, client, frontends, what it meets
MATRIX = [
    ("Cluster", "Cluster", "client", ["cluster"], BOTH_OWN),
    ("Cluster", "Cluster", "client", EXTERNAL, BOTH_NODE),
    ("Cluster", "Cluster", "node", ALL, BOTH_NODE),
    ("Cluster", "Cluster", "outside", ALL, BOTH_NODE),
    ("Cluster", "Local", "client", ALL, BOTH_OWN),
    ("Cluster", "Local", "node", ALL, BOTH_NODE),
    ("Cluster", "Local", "outside", ["cluster"], BOTH_NODE),
    ("Cluster", "Local", "outside", EXTERNAL, {"a own"}),
    ("Cluster", "Local", "remote", EXTERNAL, {"a own"}),
    ("Local", "Cluster", "client", ["cluster"], {"a own"}),
    ("Local", "Cluster", "client", EXTERNAL, BOTH_NODE),
    ("Local", "Cluster", "node", ["cluster"], {"a node"}),
    ("Local", "Cluster", "node", EXTERNAL, BOTH_NODE),
    ("Local", "Cluster", "outside", ["cluster"], {"a node"}),
    ("Local", "Cluster", "outside", EXTERNAL, BOTH_NODE),
    ("Local", "Local", "client", ["cluster"], {"a own"}),
    ("Local", "Local", "client", EXTERNAL, BOTH_OWN),
    ("Local", "Local", "node", EXTERNAL, BOTH_NODE),
    ("Local", "Local", "outside", ["cluster"], {"a node"}),
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


GOING = FOUR.here("a", **LEAVING)
# endpoints, client, frontends, what it meets; both policies Local
FALLBACK = [
    ("nobody", [], ["client", "node", "outside"], ALL, {"refused"}),
    ("nobody here", [THERE], ["outside"], EXTERNAL, {"dropped"}),
    ("nobody here, asked from here", [THERE], ["client"], EXTERNAL, {"remote own"}),
    ("nobody here, asked by the node", [THERE], ["node"], EXTERNAL, {"remote node"}),
    ("nobody here, cluster IP", [THERE], ["client", "node", "outside"], ["cluster"], {"dropped"}),
    ("one leaving here", [GOING, THERE], ["outside"], EXTERNAL, {"a own"}),
    ("one leaving here, asked from here", [GOING, THERE], ["client"], EXTERNAL, {"remote own"}),
    ("one leaving here, cluster IP", [GOING, THERE], ["client"], ["cluster"], {"a own"}),
]


@pytest.mark.parametrize(
    ("endpoints", "clients", "fronts", "expected"), [row[1:] for row in FALLBACK], ids=[row[0] for row in FALLBACK]
)
def test_who_answers_where_policies_are_local(node, endpoints, clients, fronts, expected):
    node.put(*web(*endpoints, internal="Local", external="Local"))

    assert meet_everywhere(node, clients, fronts, is_silent="dropped" in expected) == expected


def test_a_pod_reaches_itself_through_every_frontend(node):
    node.put(*web(HERE, external="Local"))

    assert {front: meet(node, "a", front) for front in ALL} == dict.fromkeys(ALL, "a node")


def test_masquerade_all_hides_pods_from_each_other(node):
    node.look(masquerade_all=True)
    node.put(*web(HERE, THERE))

    assert meets(node, "client", "cluster") == BOTH_NODE


def test_without_knowing_pods_nothing_is_taken_for_outside(node):
    node.look(pod_cidrs=())
    node.put(*web(HERE, THERE))

    assert meets(node, "outside", "cluster") == BOTH_OWN


def test_pods_are_known_by_their_interface(node):
    node.look(pod_cidrs=(), pod_interface="podwire0")
    node.put(*web(HERE, THERE, external="Local"))

    assert (meets(node, "client", "lb"), meets(node, "outside", "cluster")) == (BOTH_OWN, BOTH_NODE)


# --- node ports


def test_a_node_port_is_served_at_the_nodes_address_as_it_changes(node):
    node.put(*web(HERE))
    assert node.ask("client", NODE, 30080)
    assert node.is_refused_at_once("client", GATEWAY, 30080)
    node.look(addresses=(ip_address(GATEWAY),), nodeport_addresses=(ip_network(GATEWAY),))

    assert node.ask("client", GATEWAY, 30080)
    assert node.is_refused_at_once("client", NODE, 30080)


def test_node_ports_at_all_addresses(node):
    node.look(nodeport_addresses=(ip_network("0.0.0.0/0"),))
    node.put(*web(HERE))

    assert [node.ask("client", address, 30080).split()[0] for address in (NODE, GATEWAY)] == ["a", "a"]


def test_node_ports_of_one_number_for_tcp_and_udp(node):
    ports = [(53, "dns", "UDP", 30053), (53, "dns-tcp", "TCP", 30053)]
    targets = [(8080, "dns", "UDP"), (8081, "dns-tcp")]
    node.put(service("dns", "10.96.0.53", type="NodePort", ports=ports), endpoint_slice("dns", [HERE], ports=targets))
    with node.udp_socket("outside") as opened:
        assert ask_udp(opened, NODE, 30053).startswith("a ")

    assert node.ask("outside", NODE, 30053).startswith("a ")


def test_a_new_address_of_the_node_writes_no_service(node):
    node.put(*web(HERE, THERE))
    before = node.nft.elements("services"), node.nft.elements("nodeports"), node.nft.elements("ring")
    node.look(nodeport_addresses=(ip_network(GATEWAY),))

    assert before == (node.nft.elements("services"), node.nft.elements("nodeports"), node.nft.elements("ring"))


# --- load balancers


def test_a_load_balancer_in_mode_proxy_is_left_alone(node):
    made = service("web", CLUSTER_IP, ingress=[objects.LoadBalancerIngress(ip=BALANCER, ip_mode="Proxy")])
    node.put(made, endpoint_slice("web", [HERE]))

    assert meet(node, "outside", "lb", is_silent=True) == "dropped"


RANGES = [
    ("one that has it", [f"{OUTSIDE}/32"], "a own"),
    ("one of several, not sorted", [" 198.51.100.0/24 ", "192.0.2.0/24", "192.0.2.0/28"], "a own"),
    ("everybody", ["0.0.0.0/0", "198.51.100.0/24"], "a own"),
    ("another", ["198.51.100.0/24"], "dropped"),
    ("the other family's only", ["2001:db8::/32"], "dropped"),
    ("the other family's and one that has it", ["2001:db8::/32", "192.0.2.0/24"], "a own"),
]


@pytest.mark.parametrize(("ranges", "expected"), [row[1:] for row in RANGES], ids=[row[0] for row in RANGES])
def test_source_ranges_are_for_the_load_balancer_alone(node, ranges, expected):
    node.put(*web(HERE, external="Local", load_balancer_source_ranges=tuple(ranges)))

    assert meet(node, "outside", "lb", is_silent=expected == "dropped") == expected
    assert meet_everywhere(node, ["outside"], ["external", "nodeport"]) == {"a own"}
    assert meet(node, "outside", "cluster") == "a node"


def test_source_ranges_drop_also_where_nobody_serves(node):
    node.put(*web(load_balancer_source_ranges=("198.51.100.0/24",)))

    assert meet(node, "outside", "lb", is_silent=True) == "dropped"


def test_source_ranges_that_change_hold_at_once(node):
    for ranges, expected in (("198.51.100.0/24", "dropped"), ("192.0.2.0/24", "a own"), ("192.0.2.0/30", "a own")):
        node.put(*web(HERE, external="Local", load_balancer_source_ranges=(ranges,)))
        assert meet(node, "outside", "lb", is_silent=expected == "dropped") == expected


# --- addresses nobody has


def test_an_unallocated_cluster_ip_is_dropped_and_not_routed_away(node):
    node.put(*web(HERE))
    node.pods["remote"].run("ip", "address", "add", "10.96.9.9/32", "dev", "lo")
    try:
        assert node.is_ignored("client", "10.96.9.9", 8080)
        node.look(service_cidrs=())
        assert node.ask("client", "10.96.9.9", 8080).startswith("remote ")
    finally:
        node.pods["remote"].run("ip", "address", "delete", "10.96.9.9/32", "dev", "lo")


def test_other_ports_of_an_external_address_are_left_alone(node):
    node.put(*web())
    node.pods["remote"].run("ip", "address", "add", f"{BALANCER}/32", "dev", "lo")
    try:
        assert node.ask("client", BALANCER, 8080).startswith("remote ")
        assert meet(node, "client", "lb") == "refused"
    finally:
        node.pods["remote"].run("ip", "address", "delete", f"{BALANCER}/32", "dev", "lo")


def test_what_another_table_translates_is_not_refused(node):
    """Of all nat chains of a hook the first that translates counts; refusing comes after all of them."""
    node.put(service(type="NodePort", ports=[(80, "http", "TCP", 30080)]), endpoint_slice("web", []))
    assert node.is_refused_at_once("outside", NODE, 30080)
    node.node.run("nft", "-f", "-", stdin=OTHERS)
    try:
        # Of two chains of one priority the later one is asked first.
        node.nft.delete_table()
        node.sync(RESYNC)
        assert node.ask("outside", NODE, 30080).startswith("a ")
    finally:
        node.node.run("nft", "delete", "table", "ip", "others")


def test_a_ping_to_a_cluster_ip_is_refused(node):
    node.put(*web(HERE))
    answer = node.pods["client"].run("ping", "-c1", "-W30", CLUSTER_IP, check=False)

    assert "Destination Port Unreachable" in answer


# --- the table


def test_every_way_in_is_listed_loads_back_and_survives_a_restart(node):
    ranges = ("192.0.2.0/24", "198.51.100.1/32")
    node.put(*web(HERE, THERE, internal="Local", external="Local", load_balancer_source_ranges=ranges, affinity=60))
    node.put(service("none", "10.96.0.11", ports=[(80, "http", "TCP", 30081)], external_ips=("203.0.113.9",)))
    node.sweep()
    generation = node.nft.generation()
    node.restart()
    node.sweep()

    node.node.run("nft", "-c", "-f", "-", stdin=node.node.run("nft", "list", "ruleset"))
    assert node.nft.generation() == generation


def test_a_table_of_another_version_is_replaced_with_every_way_in(node):
    node.put(*web(HERE, THERE, internal="Local", external="Local", load_balancer_source_ranges=("192.0.2.0/24",)))
    before = {name: node.nft.elements(name) for name in ("outside", "nodeports", "allowed-sources", "keep-source")}
    node.node.run("nft", "add rule ip podwire-proxy refuse accept")
    node.restart()

    assert {name: set(node.nft.elements(name)) for name in before} == {n: set(kept) for n, kept in before.items()}
    assert meet(node, "outside", "lb") == "a own"


def test_what_others_do_to_the_chains_of_the_node_is_undone(node):
    node.put(*web(HERE))
    node.node.run("nft", "flush chain ip podwire-proxy to-node")
    node.restart()

    assert meet(node, "outside", "nodeport") == "a node"
