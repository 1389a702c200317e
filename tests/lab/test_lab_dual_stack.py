"""A dual-stack lab: the four promises of pod networking once more, over IPv6.

Address plan: nodes fd00:172:30::11 and ::12, outside host fd00:172:30::1; a podCIDR fd00:10:244:N::/64 each, Services
fd00:10:96::/112. Each node has two pods.
"""

import ipaddress
import itertools
import socket

import pytest
from scapy.layers.inet6 import TCP, IPv6
from scapy.layers.l2 import Ether

from tests.lab.cluster import Lab, ask, await_endpoints, echo_pod, service
from tests.waiting import eventually

SPACE = "default"
OUTSIDE = "fd00:172:30::1"


@pytest.fixture(scope="module")
def dual():
    made = Lab("d")
    try:
        made.up("--nodes", "2", "--dual-stack")
        made.apply(*(echo_pod(f"{node}-{letter}", SPACE, node=node) for node in made.nodes() for letter in "ab"))
        made.apply(service("both", SPACE, ipFamilyPolicy="RequireDualStack"))
        made.ready_pods(SPACE, 4)
        yield made
    finally:
        made.destroy()
    assert made.namespaces() == []


@pytest.fixture(scope="module")
def pods(dual):
    """Each pod with its IPv6 address."""
    addresses = eventually(lambda: len(found := dual.addresses6(SPACE)) == 4 and found)
    return {name: (pod, addresses[name]) for name, pod in dual.pods(SPACE).items()}


def sniffer(namespace, device):
    def open_socket():
        sniffing = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        sniffing.bind((device, 0))
        sniffing.settimeout(30)
        return sniffing

    return namespace.call(open_socket)


def first_syn(sniffing, client_port):
    while True:
        frame = Ether(sniffing.recv(65535))
        if IPv6 in frame and TCP in frame and frame[TCP].flags == "S" and frame[TCP].sport == client_port:
            return frame[IPv6]


def test_each_pod_has_an_address_of_its_own_from_its_nodes_second_pod_cidr(dual, pods):
    cidrs = {each["metadata"]["name"]: each["spec"]["podCIDRs"][1] for each in dual.get("nodes")["items"]}
    assert len({address for _, address in pods.values()}) == 4
    for pod, address in pods.values():
        assert ipaddress.ip_address(address) in ipaddress.ip_network(cidrs[pod.node])


def test_every_pod_reaches_every_pod_and_is_seen_by_its_own_address(pods):
    for (one, own), (other, address) in itertools.product(pods.values(), repeat=2):
        answer = ask(one.netns, address)
        assert (answer.pod, answer.client) == (other.name, own)


def test_packets_between_nodes_carry_the_pods_own_addresses(dual, pods):
    (one, own), (other, address) = pods["node1-a"], pods["node2-a"]
    with sniffer(dual.node("node2"), "eth0") as wire, sniffer(other.netns, "eth0") as end:
        port = ask(one.netns, address).own_port
        packets = [first_syn(wire, port), first_syn(end, port)]
    assert [(packet.src, packet.dst, packet.hlim) for packet in packets] == [(own, address, 63), (own, address, 62)]


def test_nodes_reach_all_pods_and_pods_reach_all_nodes(dual, pods):
    for pod, address in pods.values():
        for number in (1, 2):
            assert ask(dual.node(f"node{number}"), address).pod == pod.name
            pod.netns.run("ping", "-n", "-c", "1", "-W", "30", f"fd00:172:30::1{number}")


def test_outside_the_cluster_a_pod_is_seen_as_its_node(dual, pods):
    pod, _ = pods["node2-a"]
    with dual.underlay.call(lambda: socket.create_server((OUTSIDE, 0), family=socket.AF_INET6)) as server:
        server.settimeout(30)
        port = server.getsockname()[1]
        with pod.netns.call(lambda: socket.create_connection((OUTSIDE, port), timeout=30)):
            accepted, (seen, *_) = server.accept()
            accepted.close()
    assert seen == "fd00:172:30::12"


@pytest.mark.parametrize("index", [0, 1], ids=["IPv4", "IPv6"])
def test_a_service_of_both_families_answers_at_both_in_turn(dual, pods, index):
    address = dual.get("service", "both", "--namespace", SPACE)["spec"]["clusterIPs"][index]
    client, _ = pods["node1-a"]
    await_endpoints(client.netns, address, set(pods))


def test_the_nodes_say_both_addresses(dual):
    said = {
        each["metadata"]["name"]: [a["address"] for a in each["status"]["addresses"] if a["type"] == "InternalIP"]
        for each in dual.get("nodes")["items"]
    }
    assert said == {"node1": ["172.30.0.11", "fd00:172:30::11"], "node2": ["172.30.0.12", "fd00:172:30::12"]}


def test_a_second_up_finds_nothing_to_repair(dual):
    assert "nothing to repair" in dual.up("--dual-stack")


@pytest.mark.parametrize(
    "asked",
    [("--cluster-cidr", "10.1.0.0/16"), ("--service-cidr", "10.2.0.0/16,fd00:2::/112")],
    ids=lambda each: each[0],
)
def test_other_networks_than_the_labs_own_are_refused(dual, asked):
    refused = dual.run("up", *asked, check=False)
    assert refused.returncode != 0
    assert f"{asked[0]} {asked[1]}" in refused.stderr
    assert "keeps it; take it down first" in " ".join(refused.stderr.split())
