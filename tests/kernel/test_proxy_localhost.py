"""Node ports at localhost: for the node itself, TCP and UDP, both families, and for nobody else.

The node, its pods and the clients are those of tests/service_node.py. Service `web`: node port 30080 TCP, 30053 UDP, endpoints
`a` on this node and `remote` on another.
"""

import fcntl
import json
import socket
import struct
import termios
import threading
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from proxy import layout
from tests import service_node
from tests.address_plan import IPV4, IPV6
from tests.service_node import PATIENT, ServiceNode, ask, ask_udp
from tests.services import endpoint, endpoint_slice, service
from tests.waiting import eventually

PORTS = [(80, "http", "TCP", 30080), (53, "dns", "UDP", 30053)]
TARGETS = [(8080, "http"), (8080, "dns", "UDP")]


@pytest.fixture(scope="module", params=[IPV4, IPV6], ids=str)
def shared(request: pytest.FixtureRequest) -> Iterator[ServiceNode]:
    with service_node.service_node(request.param) as made:
        yield made


@pytest.fixture
def node(shared: ServiceNode) -> Iterator[ServiceNode]:
    yield shared
    shared.clear()
    shared.restart()


@pytest.fixture(scope="module")
def four() -> Iterator[ServiceNode]:
    with service_node.service_node(IPV4) as made:
        put(made)
        yield made


def put(node: ServiceNode, **spec) -> None:
    plan = node.plan
    pods = [plan.pods["a"], endpoint(plan.remote, node="node2")]
    made = service("web", plan.service_ip(10), type="NodePort", ports=PORTS, **spec)
    node.put(made, endpoint_slice("web", pods, ports=TARGETS))


def test_a_node_port_is_served_at_localhost_in_turn(node):
    put(node)
    answered = [answer.split()[0] for answer in node.asks("node", 4, node.plan.loopback, 30080)]

    assert sorted(answered[:2]) == ["a", "remote"]
    assert answered == answered[:2] * 2


def test_a_program_sees_the_address_it_asked(node):
    put(node)

    def ends() -> tuple[str, str]:
        with socket.create_connection((node.plan.loopback, 30080), timeout=PATIENT) as opened:
            opened.recv(100)
            return opened.getpeername()[0], opened.getsockname()[0]

    assert node.inside("node", ends) == (node.plan.loopback, node.plan.loopback)


def test_a_udp_node_port_is_served_at_localhost_and_answers_from_there(node):
    put(node)
    with node.udp_socket("node") as opened:
        for _ in range(3):
            opened.sendto(b"?", (node.plan.loopback, 30053))
            _, answerer = opened.recvfrom(100)
            assert answerer[:2] == (node.plan.loopback, 30053)


def test_much_data_goes_through_unharmed(node):
    """Segments larger than any packet, whose checksums the kernel leaves to the device."""
    put(node)
    plan, received = node.plan, bytearray()
    sent = bytes(range(256)) * 8000

    def serve() -> socket.socket:
        family = socket.AF_INET6 if ":" in plan.loopback else socket.AF_INET
        made = socket.create_server((plan.everywhere, 9000), family=family)
        made.settimeout(PATIENT)
        return made

    listener = node.inside("remote", serve)

    def take() -> None:
        connection, _ = listener.accept()
        while block := connection.recv(1 << 16):
            received.extend(block)
        connection.sendall(b"done")
        connection.close()

    taker = threading.Thread(target=take)
    taker.start()
    node.put(
        service("bulk", plan.service_ip(12), type="NodePort", ports=[(9000, "bulk", "TCP", 30900)]),
        endpoint_slice("bulk", [endpoint(plan.remote, node="node2")], ports=[(9000, "bulk")]),
    )

    def send() -> bytes:
        with socket.create_connection((plan.loopback, 30900), timeout=PATIENT) as opened:
            opened.sendall(sent)
            opened.shutdown(socket.SHUT_WR)
            return opened.recv(100)

    assert node.inside("node", send) == b"done"
    taker.join()
    listener.close()
    assert received == sent


def test_affinity_takes_localhost_and_the_nodes_address_for_one_client(node):
    put(node, affinity=600)
    plan = node.plan
    answered = {node.ask("node", address, 30080).split()[0] for address in (plan.loopback, plan.node, plan.loopback)}

    assert len(answered) == 1
    assert len(node.nft.elements(layout.AFFINITY)) == 1


def test_other_ports_at_localhost_are_the_nodes_own(node):
    put(node)
    plan = node.plan

    def exchange() -> bytes:
        family = socket.AF_INET6 if ":" in plan.loopback else socket.AF_INET
        with (
            socket.create_server((plan.loopback, 30079), family=family) as listener,
            socket.create_connection((plan.loopback, 30079), timeout=PATIENT) as opened,
        ):
            accepted, peer = listener.accept()
            accepted.sendall(peer[0].encode())
            accepted.close()
            return opened.recv(100)

    assert node.inside("node", exchange).decode() == plan.loopback


def test_a_node_port_that_nobody_serves_is_refused_at_localhost(node):
    node.put(service("web", node.plan.service_ip(10), type="NodePort", ports=PORTS), endpoint_slice("web", []))

    assert node.is_refused_at_once("node", node.plan.loopback, 30080)


def test_it_can_be_switched_off_and_on(node):
    put(node)
    node.look(localhost_node_ports=False)
    assert node.is_refused_at_once("node", node.plan.loopback, 30080)
    node.look(localhost_node_ports=True)

    assert node.ask("node", node.plan.loopback, 30080)


@pytest.mark.parametrize("is_restarted", [False, True], ids=["", "and the proxy restarted"])
def test_a_connection_goes_on_when_its_service_is_gone(node, is_restarted):
    put(node)

    def converse() -> None:
        with socket.create_connection((node.plan.loopback, 30080), timeout=PATIENT) as opened:
            opened.recv(100)
            node.world.remove(("default", "web"))
            node.sync(("default", "web"))
            if is_restarted:
                node.restart()
            opened.sendall(b"still here")
            eventually(lambda: not unacknowledged(opened))

    node.inside("node", converse)


def unacknowledged(connection: socket.socket) -> int:
    """How many bytes the other end has not confirmed."""
    (count,) = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))
    return count


def test_rules_for_localhost_come_with_the_first_node_port(four):
    with service_node.service_node(IPV4) as bare:
        bare.put(service("web", bare.plan.service_ip(10)), endpoint_slice("web", [bare.plan.pods["a"]]))
        assert bare.ask("node", bare.plan.service_ip(10))
        assert layout.LOCALHOST_CHAINS.isdisjoint(chain.name for chain in bare.nft.chains())

    assert {chain.name for chain in four.nft.chains()} >= layout.LOCALHOST_CHAINS


def test_any_loopback_address_of_ipv4_is_served(four):
    assert four.ask("node", "127.0.0.9", 30080)


# --- nobody else


def test_no_interface_is_opened_for_loopback_addresses(four):
    switches = four.node.run("sysctl", "-a", "-r", r"route_localnet$")

    assert four.ask("node", "127.0.0.1", 30080)
    assert "= 1" not in switches


def strike(node: ServiceNode, *packets: Packet) -> None:
    """Send to the node from its neighbour, whose kernel would not. They arrive in this order."""
    (link,) = json.loads(node.node.run("ip", "-j", "link", "show", "uplink"))
    frames = [bytes(Ether(dst=link["address"], src="02:00:00:00:00:01") / packet) for packet in packets]

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as opened:
            opened.bind(("uplink", 0))
            for frame in frames:
                opened.send(frame)

    node.inside("outside", send)


def open_udp(address: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((address, port))
    opened.settimeout(PATIENT)
    return opened


@pytest.mark.parametrize("source", [IPV4.outside, "127.0.0.1"])
def test_a_neighbour_reaches_no_service_that_listens_on_loopback(four, source):
    with (
        four.inside("node", lambda: open_udp("127.0.0.1", 7777)) as private,
        four.inside("node", lambda: open_udp(IPV4.node, 7778)) as public,
    ):
        wanted = IP(src=source, dst="127.0.0.1") / UDP(sport=1, dport=7777) / Raw(b"from outside")
        strike(four, wanted, IP(src=IPV4.outside, dst=IPV4.node) / UDP(sport=1, dport=7778) / Raw(b"after it"))
        assert public.recv(100) == b"after it"
        private.setblocking(False)
        with pytest.raises(BlockingIOError):
            private.recv(100)


@pytest.mark.parametrize("source", [IPV4.outside, "127.0.0.1"])
def test_a_neighbour_reaches_no_endpoint_by_the_nodes_localhost(four, source):
    before = connections(four)
    tcp, udp = TCP(sport=2, dport=30080), UDP(sport=2, dport=30053)
    strike(four, IP(src=source, dst="127.0.0.1") / tcp, IP(src=source, dst="127.0.0.1") / udp)
    assert four.inside("outside", lambda: ask(IPV4.node, 30080))

    assert connections(four) == before + 1
    with four.udp_socket("outside") as opened:
        assert ask_udp(opened, IPV4.node, 30053)


def connections(node: ServiceNode) -> int:
    """How many an endpoint was given so far."""
    return sum(packets for packets, _ in node.nft.counters(layout.ENDPOINTS).values())
