"""Connections to Services in IPv6 after their first packet: what tests/kernel/test_proxy_connections.py shows for IPv4.

The node, its pods and the clients are those of tests/service_node.py with the addresses of IPV6; endpoints answer on 9090.
"""

from collections.abc import Iterator

import pytest

from tests import service_node
from tests.address_plan import IPV6
from tests.connections import connect, is_reset, send, stray
from tests.service_node import ServiceNode
from tests.services import endpoint_slice, service

__all__ = ["connect"]

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


def serve(node: ServiceNode, *endpoints: str, wish: str = "") -> None:
    served = service("web", WEB, ports=[(80, "http", "TCP", NODE_PORT)], type="NodePort", on_removal=wish)
    node.put(served, endpoint_slice("web", endpoints, ports=[(9090, "http")]))


@pytest.mark.parametrize(("client", "server", "to"), WAYS)
def test_both_silent_ends_are_reset_in_ipv6(node, connect, client, server, to):
    serve(node, ADDRESSES[server], wish="reset")
    connection = connect(client, server, to)
    assert connection.works()
    serve(node, ADDRESSES["b"], wish="reset")

    assert is_reset(node, connection.client)
    assert is_reset(node, connection.server)


@pytest.mark.parametrize(("client", "server", "to"), WAYS)
def test_a_stray_packet_resets_no_connection_in_ipv6(node, connect, client, server, to):
    serve(node, ADDRESSES[server])
    connection = connect(client, server, to)
    send(node, server, stray(connection.server, (ADDRESSES[server], 9090), connection.server.getpeername()))
    send(node, client, stray(connection.client, connection.client.getsockname(), to))

    assert connection.works()
