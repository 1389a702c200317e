"""Connections to Services in IPv6 after their first packet: what tests/kernel/test_proxy_connections.py shows for IPv4.

The node, its pods and the clients are those of tests/service_node.py with the addresses of IPV6; endpoints answer on 9090.
"""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6

from tests import service_node
from tests.address_plan import IPV6
from tests.kernel.test_proxy_connections import Connection, is_reset, numbers
from tests.service_node import ServiceNode
from tests.services import endpoint_slice, service

WEB, NODE, NODE_PORT = IPV6.service_ip(10), IPV6.node, 30080
ADDRESSES = {"a": IPV6.pods["a"], "b": IPV6.pods["b"], "remote": IPV6.remote}
WAYS = [("client", "a", (WEB, 80)), ("client", "remote", (WEB, 80)), ("outside", "a", (NODE, NODE_PORT))]


@pytest.fixture(scope="module")
def shared() -> Iterator[ServiceNode]:
    with service_node.service_node(IPV6) as made:
        yield made


@pytest.fixture
def node(shared: ServiceNode) -> Iterator[ServiceNode]:
    yield shared
    shared.clear()


@pytest.fixture
def connect(node) -> Iterator:
    with contextlib.ExitStack() as opened:

        def connect(client: str, server: str, to: tuple[str, int]) -> Connection:
            listener = opened.enter_context(
                node.inside(server, lambda: socket.create_server(("::", 9090), family=socket.AF_INET6))
            )
            near = opened.enter_context(node.inside(client, lambda: socket.create_connection(to, timeout=3)))
            far, _ = listener.accept()
            opened.enter_context(far)
            for end in (near, far):
                end.settimeout(3)
            return Connection(near, far)

        yield connect


def serve(node: ServiceNode, *endpoints: str, wish: str = "") -> None:
    served = service("web", WEB, ports=[(80, "http", "TCP", NODE_PORT)], type="NodePort", on_removal=wish)
    node.put(served, endpoint_slice("web", endpoints, ports=[(9090, "http")]))


@pytest.mark.parametrize(("client", "server", "to"), WAYS)
def test_both_silent_ends_are_reset_in_ipv6(node, connect, client, server, to):
    serve(node, ADDRESSES[server], wish="reset")
    connection = connect(client, server, to)
    assert connection.works()
    serve(node, ADDRESSES["b"], wish="reset")

    assert is_reset(connection.client)
    assert is_reset(connection.server)


@pytest.mark.parametrize(("client", "server", "to"), WAYS)
def test_a_stray_packet_resets_no_connection_in_ipv6(node, connect, client, server, to):
    serve(node, ADDRESSES[server])
    connection = connect(client, server, to)
    near, far = connection.client, connection.server
    send(node, server, far, (ADDRESSES[server], 9090), far.getpeername())
    send(node, client, near, near.getsockname(), to)

    assert connection.works()


def send(node: ServiceNode, pod: str, end: socket.socket, source: tuple, destination: tuple) -> None:
    expected, sent = numbers(end)
    segment = TCP(sport=source[1], dport=destination[1], seq=(sent + 0x1000_0000) % 2**32, ack=expected, flags="A")
    packet = bytes(IPv6(src=source[0], dst=destination[0]) / segment / b"stray")

    def write() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(packet, (destination[0], 0))

    node.inside(pod, write)
