"""The four promises of pod networking, each with packets on the wire.

Address plan: nodes 172.30.0.11 to .13, one podCIDR 10.244.N.0/24 each. For each node there are two pods.
"""

import ipaddress
import itertools
import socket

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from tests.lab import cluster
from tests.lab.cluster import ask, echo_pod

ETH_P_ALL = 3


@pytest.fixture(scope="module")
def pods(lab):
    space = "promises"
    lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    try:
        lab.apply(*(echo_pod(f"{node}-{letter}", space, node=node) for node in lab.nodes() for letter in "ab"))
        yield lab.ready_pods(space, 6)
    finally:
        lab.kubectl("delete", "namespace", space, "--wait=false")


def sniffer(namespace, device):
    def open_socket():
        sniffing = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sniffing.bind((device, 0))
        sniffing.settimeout(30)
        return sniffing

    return namespace.call(open_socket)


def first_syn(sniffing, client_port):
    """Return the TCP SYN that passed from this port: the runner's probes knock at the same pods."""
    while True:
        frame = Ether(sniffing.recv(65535))
        if TCP in frame and frame[TCP].flags == "S" and frame[TCP].sport == client_port:
            return frame


def test_each_pod_has_an_address_of_its_own_from_its_nodes_pod_cidr(lab, pods):
    addresses = {pod.address for pod in pods.values()}
    cidrs = {each["metadata"]["name"]: each["spec"]["podCIDR"] for each in lab.get("nodes")["items"]}

    assert len(addresses) == 6
    for pod in pods.values():
        assert ipaddress.ip_address(pod.address) in ipaddress.ip_network(cidrs[pod.node])


def test_every_pod_reaches_every_pod_and_is_seen_by_its_own_address(pods):
    seen = {
        (one.name, other.name): ask(one.netns, other.address)
        for one, other in itertools.product(pods.values(), repeat=2)
    }

    assert {pair: answer.pod for pair, answer in seen.items()} == {pair: pair[1] for pair in seen}
    assert {pair: answer.client for pair, answer in seen.items()} == {pair: pods[pair[0]].address for pair in seen}


def test_packets_between_nodes_carry_the_pods_own_addresses_on_the_underlay(lab, pods):
    one, other = pods["node1-a"], pods["node3-a"]
    with sniffer(lab.node("node3"), "eth0") as wire, sniffer(other.netns, "eth0") as end:
        port = ask(one.netns, other.address).own_port

        frames = [first_syn(wire, port), first_syn(end, port)]

    assert [(frame[IP].src, frame[IP].dst) for frame in frames] == [(one.address, other.address)] * 2
    assert [frame[IP].ttl for frame in frames] == [63, 62]


def test_packets_on_one_node_cross_only_its_bridge(lab, pods):
    one, other = pods["node1-a"], pods["node1-b"]
    with sniffer(other.netns, "eth0") as end:
        port = ask(one.netns, other.address).own_port

        frame = first_syn(end, port)

    assert (frame[IP].src, frame[IP].dst, frame[IP].ttl) == (one.address, other.address, 64)


def test_a_node_reaches_its_pods_and_they_reach_every_node(lab, pods):
    for pod in pods.values():
        assert ask(lab.node(pod.node), pod.address).pod == pod.name
        for number in (1, 2, 3):
            pod.netns.run("ping", "-n", "-c", "1", "-W", "30", f"172.30.0.1{number}")


def test_a_node_reaches_the_pods_of_other_nodes(lab, pods):
    assert ask(lab.node("node1"), pods["node3-b"].address).pod == "node3-b"


def test_a_pod_sees_itself_by_the_address_others_know(pods):
    for pod in pods.values():
        assert f"inet {pod.address}/" in pod.netns.run("ip", "-4", "address", "show", "dev", "eth0")


def test_outside_the_cluster_a_pod_is_seen_as_its_node(lab, pods):
    pod = pods["node2-a"]
    with lab.underlay.call(lambda: socket.create_server(("172.30.0.1", 0))) as server:
        server.settimeout(30)
        port = server.getsockname()[1]
        connection = pod.netns.call(lambda: socket.create_connection(("172.30.0.1", port), timeout=30))
        with connection:
            accepted, (seen, _) = server.accept()
            accepted.close()

    assert seen == "172.30.0.12"


def test_a_full_sized_packet_arrives_unfragmented_on_another_node(pods):
    pods["node1-a"].netns.run("ping", "-n", "-c", "1", "-W", "30", "-M", "do", "-s", "1472", pods["node2-a"].address)


def test_the_records_of_all_pods_name_what_the_kernel_has(lab, pods):
    lab.assert_no_address_is_double_or_leaked()
    assert cluster.is_ready(lab.get("pod", "node1-a", "--namespace", "promises"))
