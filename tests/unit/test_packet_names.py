"""How packets are named on the command line. Service web has the ports http 80/TCP and dns 53/UDP, one has one."""

from ipaddress import ip_address

import pytest

from cli.packet_names import Destination, UnknownName, destination, ends, source
from kube import objects
from proxy.tracing.packet import Origin
from tests.services import World, named, service


class Cluster(World):
    """What the command reads from an API server."""

    def __init__(self) -> None:
        super().__init__()
        addresses = (objects.NodeAddress(type="InternalIP", address="192.0.2.1"),)
        self.nodes = {
            "node1": objects.Node(
                metadata=objects.ObjectMeta(name="node1"),
                spec=objects.NodeSpec(pod_cidr="10.244.1.0/24", pod_cidrs=("10.244.1.0/24", "fd01::/64")),
                status=objects.NodeStatus(addresses=addresses),
            )
        }
        self.put(service(ports=[(80, "http"), (53, "dns", "UDP")], cluster_ips=("10.96.0.10", "fd00::a")))
        self.put(service("one", "10.96.0.11", ports=[(443, "")]))

    def service(self, name):
        return super().service(named(name.name)) if name.namespace == "default" else None

    def pod(self, namespace, name):
        status = objects.PodStatus(
            pod_ip="10.244.1.2", pod_ips=(objects.PodIP(ip="10.244.1.2"), objects.PodIP(ip="fd01::2"))
        )
        spec = objects.PodSpec(node_name="node1", host_network=name == "agent")
        empty = objects.PodStatus()
        meta = objects.ObjectMeta(name=name, namespace=namespace)
        return objects.Pod(metadata=meta, spec=spec, status=empty if name == "pending" else status)


def read(text: str) -> tuple:
    found = destination(text, Cluster(), namespace="default")
    return str(found.addresses[0]), found.port, found.protocol


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10.96.0.10:80", ("10.96.0.10", 80, "TCP")),
        ("10.96.0.10:53/udp", ("10.96.0.10", 53, "UDP")),
        ("10.96.0.10:9/SCTP", ("10.96.0.10", 9, "SCTP")),
        ("10.96.0.10/icmp", ("10.96.0.10", 0, "ICMP")),
        ("[fd00::a]:80", ("fd00::a", 80, "TCP")),
        ("fd00::a/icmp", ("fd00::a", 0, "ICMP")),
        ("web:http", ("10.96.0.10", 80, "TCP")),
        ("default/web:80", ("10.96.0.10", 80, "TCP")),
        ("web:dns", ("10.96.0.10", 53, "UDP")),
        ("web:53", ("10.96.0.10", 53, "UDP")),
        ("web:53/tcp", ("10.96.0.10", 53, "TCP")),
        ("web:9", ("10.96.0.10", 9, "TCP")),
        ("one", ("10.96.0.11", 443, "TCP")),
    ],
)
def test_a_destination_is_an_address_or_a_service(text, meant):
    assert read(text) == meant


@pytest.mark.parametrize(
    "text",
    ["", "web", "web:https", "web:0", "web:65536", "10.96.0.10", "10.96.0.10:x", "fd00::a", "other/web:80", "a b:80"],
)
def test_a_destination_that_names_nothing_is_refused(text):
    with pytest.raises(UnknownName, match="DESTINATION"):
        read(text)


def sender(text: str) -> tuple:
    found = source(text, Cluster(), namespace="default", node="node1")
    return str(found.addresses[0]), found.node, found.origin


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("node", ("192.0.2.1", "node1", Origin.NODE)),
        ("192.0.2.1", ("192.0.2.1", "node1", Origin.NODE)),
        ("10.244.1.9", ("10.244.1.9", "node1", Origin.POD)),
        ("fd01::9", ("fd01::9", "node1", Origin.POD)),
        ("203.0.113.9", ("203.0.113.9", "", Origin.OUTSIDE)),
        ("client", ("10.244.1.2", "node1", Origin.POD)),
        ("kube-system/agent", ("10.244.1.2", "node1", Origin.NODE)),
    ],
)
def test_a_source_is_an_address_a_pod_or_the_node(text, meant):
    assert sender(text) == meant


def test_a_pod_without_an_address_sends_nothing():
    with pytest.raises(UnknownName, match="has no address yet"):
        sender("pending")


def test_a_pod_of_another_node_comes_from_outside():
    found = source("client", Cluster(), namespace="default", node="node1")

    assert found.seen_from("node2") is Origin.OUTSIDE


def test_both_ends_are_of_one_family():
    client = source("10.244.1.9", Cluster(), namespace="default", node="node1")
    six = Destination((ip_address("fd00::a"),), 80, "TCP")
    both = Destination((ip_address("fd00::a"), ip_address("10.96.0.10")), 80, "TCP")

    assert str(ends(client, both).destination) == "10.96.0.10"
    with pytest.raises(UnknownName, match="another family"):
        ends(client, six)


def test_the_node_reaches_itself_from_localhost():
    itself = source("node", Cluster(), namespace="default", node="node1")
    pod = source("client", Cluster(), namespace="default", node="node1")
    there = Destination((ip_address("127.0.0.1"),), 30080, "TCP")

    assert str(ends(itself, there).source) == "127.0.0.1"
    with pytest.raises(UnknownName, match="everybody meets himself"):
        ends(pod, there)
