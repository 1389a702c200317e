"""Connections after their first packet, with real sockets: ended when their endpoint goes, and not by stray packets.

The node and its pods are those of tests/service_node.py. Cluster IP 10.96.0.10, external IP 198.51.100.7, node port 30080;
endpoints answer on 9090 and nothing is sent unless a test does.
"""

import concurrent.futures
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, TCP

from tests import service_node
from tests.service_node import GATEWAY, NODE, OUTSIDE, PODS, REMOTE, ServiceNode, ask_udp
from tests.services import endpoint, endpoint_slice, named, service
from tests.waiting import eventually

WEB, EXTERNAL, NODE_PORT = "10.96.0.10", "198.51.100.7", 30080
A, B = PODS["a"], PODS["b"]
TRACKING = "table ip tracking { chain every { type filter hook prerouting priority 0; ct state new\n}\n}\n"
ADDRESSES = {"a": A, "remote": REMOTE, "node": GATEWAY}


@dataclass
class Connection:
    client: socket.socket
    server: socket.socket

    def works(self) -> bool:
        for sender, receiver in ((self.client, self.server), (self.server, self.client)):
            sender.sendall(b"hello")
            if receiver.recv(100) != b"hello":
                return False
        return True


def is_reset(end: socket.socket) -> bool:
    try:
        end.recv(100)
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    raise AssertionError("the connection was closed, not reset")


@pytest.fixture(scope="module")
def shared() -> Iterator[ServiceNode]:
    with service_node.service_node() as made:
        # The way back of an answer to the external IP.
        made.pods["outside"].run("ip", "route", "add", EXTERNAL, "via", NODE)
        yield made


@pytest.fixture
def node(shared: ServiceNode) -> Iterator[ServiceNode]:
    yield shared
    shared.clear()


@pytest.fixture
def connect(node) -> Iterator:
    with contextlib.ExitStack() as opened:

        def connect(client: str, server: str = "a", to: tuple[str, int] = (WEB, 80)) -> Connection:
            listener = opened.enter_context(node.inside(server, lambda: socket.create_server(("", 9090))))
            near = opened.enter_context(node.inside(client, lambda: socket.create_connection(to, timeout=3)))
            far, _ = listener.accept()
            opened.enter_context(far)
            for end in (near, far):
                end.settimeout(3)
            return Connection(near, far)

        yield connect


def serve(node: ServiceNode, *endpoints, wish: str = "", **spec) -> None:
    served = service(
        "web",
        WEB,
        ports=[(80, "http", "TCP", NODE_PORT)],
        external_ips=(EXTERNAL,),
        on_removal=wish,
        **spec,
    )
    node.put(served, endpoint_slice("web", endpoints, ports=[(9090, "http")]))


# --- endpoints that go


def test_a_connection_goes_on_when_its_endpoint_takes_no_more(node, connect):
    serve(node, A)
    connection = connect("client")
    serve(node, B)

    assert connection.works()


@pytest.mark.parametrize(
    ("client", "server", "to"),
    [
        ("client", "a", (WEB, 80)),
        ("client", "remote", (WEB, 80)),
        ("client", "node", (WEB, 80)),
        ("node", "a", (WEB, 80)),
        ("outside", "a", (EXTERNAL, 80)),
        ("outside", "a", (NODE, NODE_PORT)),
        ("a", "a", (WEB, 80)),
    ],
    ids=["pod", "other node", "endpoint on the node", "from the node", "external IP", "node port", "hairpin"],
)
def test_both_silent_ends_are_reset_when_the_service_wants_it(node, connect, client, server, to):
    serve(node, ADDRESSES[server], wish="reset")
    connection = connect(client, server, to)
    assert connection.works()
    serve(node, B, wish="reset")

    assert is_reset(connection.client)
    assert is_reset(connection.server)


def test_connections_of_other_endpoints_go_on(node, connect):
    serve(node, A, wish="reset")
    connection = connect("client")
    serve(node, A, B, wish="reset")
    serve(node, A, wish="reset")
    serve(node, endpoint(A, ready=False, serving=True, terminating=True), B, wish="reset")

    assert connection.works()


def test_the_client_of_a_pod_that_vanished_is_reset(node, connect):
    serve(node, A, wish="reset")
    connection = connect("client")
    node.node.run("ip", "link", "set", "pw-a", "down")
    node.node.run("ip", "route", "add", "unreachable", A)
    try:
        serve(node, wish="reset")
        assert is_reset(connection.client)
    finally:
        node.node.run("ip", "route", "delete", "unreachable", A)
        node.node.run("ip", "link", "set", "pw-a", "up")


def test_a_connection_drains_before_it_is_reset(node, connect):
    serve(node, A, wish="drain=2s")
    connection = connect("client")
    serve(node, B, wish="drain=2s")
    assert connection.works()
    eventually(lambda: node.flows.run_due() or "mark=2415919103" in conntrack(node))

    assert is_reset(connection.client)


def conntrack(node: ServiceNode) -> str:
    return node.node.run("conntrack", "-L", "-p", "tcp")


def test_an_endpoint_that_went_while_the_proxy_was_down_is_noticed(node, connect):
    serve(node, A, wish="reset")
    connection = connect("client")
    node.world.put(service("web", WEB, on_removal="reset"), endpoint_slice("web", [B], ports=[(9090, "http")]))
    node.restart()

    assert is_reset(connection.client)


def test_the_connections_of_a_deleted_service_end_as_it_wished(node, connect):
    serve(node, A, wish="reset")
    connection = connect("client")
    node.sync(node.world.remove(named("web")))

    assert is_reset(connection.client)


def test_a_client_that_was_reset_reaches_another_endpoint_from_the_same_port(node, connect):
    serve(node, A, wish="reset")
    connection = connect("client")
    port = connection.client.getsockname()[1]
    node.put(service("web", WEB, on_removal="reset"), endpoint_slice("web", [B]))
    assert is_reset(connection.client)
    connection.client.close()
    eventually(lambda: node.flows.run_due() or f"sport={port}" not in conntrack(node))

    def again() -> str:
        with socket.create_connection((WEB, 80), timeout=3, source_address=("", port)) as made:
            return made.recv(100).decode()

    assert node.inside("client", again).startswith("b ")


# --- connections begun while there was no table


@pytest.fixture
def conntrack_goes_on(node) -> Iterator[None]:
    """Without any rule that needs it the kernel tracks nothing."""
    node.node.run("nft", "-f", "-", stdin=TRACKING)
    yield
    node.node.run("nft", "delete", "table", "ip", "tracking")


@pytest.mark.usefixtures("conntrack_goes_on")
def test_a_connection_begun_without_a_table_is_answered_once_there_is_one(node):
    node.put(service("web", WEB), endpoint_slice("web", [A]))
    node.nft.delete_table()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(node.ask, "client", WEB, timeout=10)
        eventually(lambda: f"SYN_SENT src={PODS['client']} dst={WEB}" in conntrack(node))
        node.restart()

        assert answer.result().startswith("a ")


@pytest.mark.usefixtures("conntrack_goes_on")
def test_a_udp_socket_used_without_a_table_is_answered_once_there_is_one(node):
    ports, targets = [(53, "dns", "UDP")], [(8080, "dns", "UDP")]
    node.put(service("dns", "10.96.0.53", ports=ports), endpoint_slice("dns", [A], ports=targets))
    node.nft.delete_table()
    with node.udp_socket("client") as opened:
        opened.sendto(b"?", ("10.96.0.53", 53))
        eventually(lambda: "dst=10.96.0.53" in node.node.run("conntrack", "-L", "-p", "udp"))
        node.restart()

        assert ask_udp(opened, "10.96.0.53", 53).startswith("a ")


@pytest.mark.parametrize("change", ["deleted", "no endpoints", "another node port"])
def test_the_udp_flows_of_a_node_port_end_with_it(node, change):
    def dns(node_port: int, *endpoints: str) -> None:
        ports, targets = [(53, "dns", "UDP", node_port)], [(8080, "dns", "UDP")]
        node.put(service("dns", "10.96.0.53", ports=ports), endpoint_slice("dns", endpoints, ports=targets))

    dns(30053, A)
    with node.udp_socket("outside") as opened:
        assert ask_udp(opened, NODE, 30053).startswith("a ")
        if change == "deleted":
            node.sync(node.world.remove(named("dns")))
        else:
            dns(*((30053,) if change == "no endpoints" else (30054, A)))

        assert "dport=30053" not in node.node.run("conntrack", "-L", "-p", "udp")


# --- packets that conntrack cannot place


def send(node: ServiceNode, pod: str, packet: IP) -> None:
    def write() -> None:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with raw, contextlib.suppress(PermissionError):  # what is dropped on its way out
            raw.sendto(bytes(packet), (packet.dst, 0))

    node.inside(pod, write)


def numbers(end: socket.socket) -> tuple[int, int]:
    """The sequence numbers of the next byte an end expects and of the next it sends."""
    repair, queue, sequence = 19, 20, 21  # TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ of include/uapi/linux/tcp.h
    found = []
    end.setsockopt(socket.IPPROTO_TCP, repair, 1)
    for which in (1, 2):  # TCP_RECV_QUEUE, TCP_SEND_QUEUE
        end.setsockopt(socket.IPPROTO_TCP, queue, which)
        found.append(end.getsockopt(socket.IPPROTO_TCP, sequence))
    end.setsockopt(socket.IPPROTO_TCP, repair, -1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return found[0] % 2**32, found[1] % 2**32


def stray(end: socket.socket, source: tuple[str, int], destination: tuple[str, int]) -> IP:
    """A segment far beyond what the other end of a connection takes; a reset in answer to it would be believed."""
    expected, sent = numbers(end)
    segment = TCP(sport=source[1], dport=destination[1], seq=(sent + 0x1000_0000) % 2**32, ack=expected, flags="A")
    return IP(src=source[0], dst=destination[0]) / segment / b"stray"


@pytest.mark.parametrize(
    ("client", "server", "to"),
    [
        ("client", "a", (WEB, 80)),
        ("client", "remote", (WEB, 80)),
        ("node", "a", (WEB, 80)),
        ("outside", "a", (EXTERNAL, 80)),
        ("outside", "a", (NODE, NODE_PORT)),
    ],
)
def test_a_stray_packet_of_either_end_resets_no_connection(node, connect, client, server, to):
    serve(node, ADDRESSES[server])
    connection = connect(client, server, to)
    near, far = connection.client, connection.server
    send(node, server, stray(far, (ADDRESSES[server], 9090), far.getpeername()))
    send(node, client, stray(near, near.getsockname(), to))

    assert connection.works()


@pytest.mark.parametrize(("sender", "receiver"), [("outside", "b"), ("b", "outside"), ("a", "outside")])
def test_half_of_a_connection_that_goes_another_way_back_passes(node, sender, receiver):
    addresses = {"a": A, "b": B, "outside": OUTSIDE}
    serve(node, A)
    half = IP(src=addresses[sender], dst=addresses[receiver]) / TCP(sport=7000, dport=7001, seq=7, ack=9, flags="SA")

    def listen() -> socket.socket:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)

    with node.inside(receiver, listen) as raw:
        raw.settimeout(3)
        send(node, sender, half)
        arrived = IP(raw.recv(1000))

    assert (arrived.src, arrived[TCP].sport) == (addresses[sender], 7000)
