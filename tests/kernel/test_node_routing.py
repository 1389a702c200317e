"""Promises 3 and 4 on the wire: pods reach pods of other nodes, and nodes and pods reach each other, both under their own
address; only towards the outside a pod appears as its node.

Address plan: one underlay link 192.0.2.0/24 with nodes n1 .1, n2 .2, n3 .3 and an outside host .100 that knows no route to
pods; podCIDR of node N 10.244.N.0/24, gateway .1 on podwire0, pods .2 and .3. Pods are wired by hand. The same in IPv6:
underlay fd00:192:2::/64, podCIDR of node N fd00:10:244:N::/64.
"""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from dataplane import netns, sysctl
from dataplane.netlink.linux import LinuxNetlink
from dataplane.nft.linux import LinuxNft
from node import masquerade
from node.masquerade_table import MasqueradeTable
from node.members import Cluster, Member
from node.problems import ProblemLog
from node.route_table import RouteTable
from tests import namespaces
from tests.namespaces import Namespace
from tests.waiting import eventually

OUTSIDE, OUTSIDE6 = "192.0.2.100", "fd00:192:2::100"
PORT = 8080
GROUP = "239.1.2.3"
CLUSTER = Cluster(
    members=tuple(
        Member(
            name=f"n{number}",
            addresses=(ip_address(f"192.0.2.{number}"), ip_address(f"fd00:192:2::{number}")),
            pod_cidrs=(ip_network(f"10.244.{number}.0/24"), ip_network(f"fd00:10:244:{number}::/64")),
        )
        for number in (1, 2, 3)
    )
)


@dataclass(frozen=True)
class Net:
    """Hosts by name, `n1` or `outside` or `p12` for pod 2 of node 1, and the switch that joins the nodes."""

    switch: Namespace
    hosts: dict[str, Namespace]
    addresses: dict[str, str]
    addresses6: dict[str, str]


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with contextlib.ExitStack() as stack:
        yield build(stack)


def build(stack: contextlib.ExitStack) -> Net:
    made = Net(stack.enter_context(namespaces.namespace("switch")), {}, {}, {})
    made.switch.run("ip", "link", "add", "name", "underlay", "up", "type", "bridge")
    for name, address in (("n1", "192.0.2.1"), ("n2", "192.0.2.2"), ("n3", "192.0.2.3"), ("outside", OUTSIDE)):
        add_host(stack, made, name, address)
    for number in (1, 2, 3):
        add_pods(stack, made, number)
        program(stack, made.hosts[f"n{number}"], f"n{number}")
    for host in made.hosts.values():
        # Until its link-local address is known to be unique a router asks for no neighbour.
        eventually(lambda host=host: "tentative" not in host.run("ip", "-6", "address", "show", "scope", "link"))
    return made


def add_host(stack: contextlib.ExitStack, net: Net, name: str, address: str) -> None:
    host = stack.enter_context(namespaces.namespace(name))
    peer = ["peer", "name", "eth0", "netns", host.name]
    net.switch.run("ip", "link", "add", "name", name, "master", "underlay", "up", "type", "veth", *peer)
    host.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
    address6 = f"fd00:192:2::{address.rpartition('.')[2]}"
    host.run("ip", "address", "add", f"{address6}/64", "dev", "eth0", "nodad")
    host.run("ip", "link", "set", "eth0", "up")
    net.hosts[name], net.addresses[name], net.addresses6[name] = host, address, address6


def add_pods(stack: contextlib.ExitStack, net: Net, number: int) -> None:
    node = net.hosts[f"n{number}"]
    hooks = ("nf_call_iptables", "1", "nf_call_ip6tables", "1")
    node.run("ip", "link", "add", "name", "podwire0", "up", "type", "bridge", *hooks)
    node.run("ip", "address", "add", f"10.244.{number}.1/24", "dev", "podwire0")
    node.run("ip", "address", "add", f"fd00:10:244:{number}::1/64", "dev", "podwire0", "nodad")
    for index in (2, 3):
        name, address = f"p{number}{index}", f"10.244.{number}.{index}"
        pod = stack.enter_context(namespaces.namespace(name))
        peer = ["peer", "name", "eth0", "netns", pod.name]
        node.run("ip", "link", "add", "name", f"pw{index}", "master", "podwire0", "up", "type", "veth", *peer)
        pod.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        address6 = f"fd00:10:244:{number}::{index}"
        pod.run("ip", "address", "add", f"{address6}/64", "dev", "eth0", "nodad")
        pod.run("ip", "link", "set", "eth0", "up")
        pod.run("ip", "route", "add", "default", "via", f"10.244.{number}.1")
        pod.run("ip", "route", "add", "default", "via", f"fd00:10:244:{number}::1")
        net.hosts[name], net.addresses[name], net.addresses6[name] = pod, address, address6


def program(stack: contextlib.ExitStack, node: Namespace, name: str) -> None:
    """What the agent does on a node, with its own code."""
    opened = stack.enter_context(netns.open_netns(node.path))
    netlink = LinuxNetlink(opened.fd)
    stack.callback(netlink.close)
    for switch in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        netns.run_in(opened.fd, lambda switch=switch: sysctl.write(switch, 1))
    RouteTable(netlink, name, ProblemLog()).sync(CLUSTER)
    for table in (masquerade.TABLE, masquerade.TABLE6):
        nft = stack.enter_context(LinuxNft(table, netns_fd=opened.fd))
        MasqueradeTable(nft, table, name).sync(CLUSTER)


def source_seen(net: Net, client: str, server: str) -> str:
    """Connect and exchange a byte; return the client's address as the server sees it."""
    return _source_seen(net, client, server, (net.addresses[server], PORT), socket.AF_INET)


def source_seen6(net: Net, client: str, server: str) -> str:
    return _source_seen(net, client, server, (net.addresses6[server], PORT), socket.AF_INET6)


def _source_seen(net: Net, client: str, server: str, target: tuple[str, int], family: socket.AddressFamily) -> str:
    anywhere = ("0.0.0.0" if family == socket.AF_INET else "::", PORT)
    listener = net.hosts[server].call(lambda: socket.create_server(anywhere, family=family))
    with listener:
        listener.settimeout(30)
        caller = net.hosts[client].call(lambda: socket.create_connection(target, timeout=30))
        accepted, (address, *_) = listener.accept()
        with caller, accepted:
            accepted.sendall(b"!")
            assert caller.recv(1) == b"!"
        return address


@contextlib.contextmanager
def capture(namespace: Namespace, device: str) -> Iterator[socket.socket]:
    """All frames on a device, from now on."""

    def listen() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        sock.bind((device, 0))
        return sock

    sock = namespace.call(listen)
    with sock:
        sock.settimeout(1)
        yield sock


def sent(net: Net, client: str, destination: str, sock: socket.socket) -> Ether:
    """A UDP packet of a client as it comes by; sent again while it is lost."""

    def speak() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker:
            speaker.sendto(b"hello", (destination, PORT))

    def comes_by() -> Ether | None:
        net.hosts[client].call(speak)
        with contextlib.suppress(TimeoutError):
            return datagram(sock, destination)
        return None

    return eventually(comes_by)


def datagram(sock: socket.socket, destination: str) -> Ether:
    """The first UDP packet to a destination that comes by."""
    while True:
        frame = Ether(sock.recv(65535))
        if UDP in frame and frame[IP].dst == destination and frame[UDP].dport == PORT:
            return frame


@pytest.mark.parametrize(("client", "server"), [("p12", "p22"), ("p22", "p12"), ("p32", "p13"), ("p12", "p13")])
def test_a_pod_reaches_every_pod_under_its_own_address(net: Net, client: str, server: str) -> None:
    assert source_seen(net, client, server) == net.addresses[client]


@pytest.mark.parametrize(("client", "server"), [("p12", "n2"), ("p12", "n3"), ("p22", "n1"), ("p12", "n1")])
def test_a_pod_reaches_every_node_under_its_own_address(net: Net, client: str, server: str) -> None:
    assert source_seen(net, client, server) == net.addresses[client]


@pytest.mark.parametrize(("client", "server"), [("n1", "p22"), ("n2", "p13"), ("n3", "p12")])
def test_a_node_reaches_the_pods_of_other_nodes_under_its_own_address(net: Net, client: str, server: str) -> None:
    assert source_seen(net, client, server) == net.addresses[client]


def test_a_node_reaches_its_own_pods_from_the_gateway(net: Net) -> None:
    assert source_seen(net, "n1", "p12") == "10.244.1.1"


def test_a_pod_reaches_the_outside_as_its_node(net: Net) -> None:
    assert [source_seen(net, pod, "outside") for pod in ("p12", "p13", "p22")] == [
        "192.0.2.1",
        "192.0.2.1",
        "192.0.2.2",
    ]


def test_between_nodes_a_packet_carries_the_pods_addresses(net: Net) -> None:
    with capture(net.switch, "n2") as wire:
        packet = sent(net, "p12", net.addresses["p22"], wire)[IP]
    assert (packet.src, packet.dst) == ("10.244.1.2", "10.244.2.2")


def test_a_packet_between_pods_is_routed_once_on_each_node(net: Net) -> None:
    with capture(net.hosts["p22"], "eth0") as wire:
        assert sent(net, "p12", net.addresses["p22"], wire)[IP].ttl == 62


def test_no_packet_of_a_pod_leaves_for_the_outside_under_its_own_address(net: Net) -> None:
    with capture(net.switch, "outside") as wire:
        assert sent(net, "p12", OUTSIDE, wire)[IP].src == "192.0.2.1"


def test_what_a_pod_sends_to_a_group_on_its_bridge_keeps_its_source(net: Net) -> None:
    with capture(net.hosts["p13"], "eth0") as wire:
        assert sent(net, "p12", GROUP, wire)[IP].src == "10.244.1.2"


def test_the_way_is_direct_and_keeps_the_whole_mtu(net: Net) -> None:
    net.hosts["p12"].run("ping", "-c1", "-W30", "-M", "do", "-s", "1472", net.addresses["p22"])


def test_every_pod_and_node_reaches_every_pod_and_node(net: Net) -> None:
    inside = [name for name in net.hosts if name != "outside"]
    unreachable = [
        (client, server)
        for client in inside
        for server in inside
        if "1 received" not in net.hosts[client].run("ping", "-c1", "-W30", net.addresses[server], check=False)
    ]
    assert unreachable == []


@pytest.mark.parametrize(
    ("client", "server"), [("p12", "p22"), ("p22", "p12"), ("p12", "p13"), ("p12", "n2"), ("p12", "n1"), ("n1", "p22")]
)
def test_in_ipv6_everybody_inside_is_seen_under_his_own_address(net: Net, client: str, server: str) -> None:
    assert source_seen6(net, client, server) == net.addresses6[client]


def test_in_ipv6_a_pod_reaches_the_outside_as_its_node(net: Net) -> None:
    assert [source_seen6(net, pod, "outside") for pod in ("p12", "p22")] == ["fd00:192:2::1", "fd00:192:2::2"]


def test_in_ipv6_every_pod_and_node_reaches_every_pod_and_node(net: Net) -> None:
    inside = [name for name in net.hosts if name != "outside"]
    unreachable = [
        (client, server)
        for client in inside
        for server in inside
        if "1 received" not in net.hosts[client].run("ping", "-c1", "-W30", net.addresses6[server], check=False)
    ]
    assert unreachable == []


def test_both_tables_load_back(net: Net) -> None:
    listing = net.hosts["n1"].run("nft", "list", "ruleset")
    assert "table ip6 podwire-node" in listing
    net.hosts["n1"].run("nft", "-c", "-f", "-", stdin=listing)
