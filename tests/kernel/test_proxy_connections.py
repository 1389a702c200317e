"""Connections after their first packet, with real sockets: ended when their endpoint goes, and not by stray packets.

The node and its pods are those of tests/service_node.py. Cluster IP 10.96.0.10, external IP 198.51.100.7, node port 30080;
endpoints answer on 9090 and nothing is sent unless a test does.
"""

import concurrent.futures
import socket
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from scapy.layers.inet import IP, TCP

from proxy.resets import TABLE as RESETS
from tests import service_node
from tests.connections import connect, is_reset, send, stray
from tests.service_node import GATEWAY, NODE, OUTSIDE, PATIENT, PODS, REMOTE, ServiceNode, ask_udp
from tests.services import endpoint, endpoint_slice, named, service
from tests.waiting import eventually

__all__ = ["connect"]

WEB, EXTERNAL, NODE_PORT = "10.96.0.10", "198.51.100.7", 30080
A, B = PODS["a"], PODS["b"]
TRACKING = "table ip tracking { chain every { type filter hook prerouting priority 0; ct state new\n}\n}\n"
ADDRESSES = {"a": A, "remote": REMOTE, "node": GATEWAY}


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


def can_reset(node: ServiceNode) -> bool:
    return RESETS in node.node.run("nft", "list", "tables")


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

    assert is_reset(node, connection.client)
    assert is_reset(node, connection.server)


def test_the_rules_that_reset_are_there_only_meanwhile(node, connect):
    serve(node, A, wish="reset")
    connection = connect("client")
    eventually(lambda: node.flows.run_due() or not can_reset(node))  # what the last test began has ended
    serve(node, B, wish="reset")
    assert can_reset(node)

    assert is_reset(node, connection.client)
    eventually(lambda: node.flows.run_due() or not can_reset(node))


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
        assert is_reset(node, connection.client)
    finally:
        node.node.run("ip", "route", "delete", "unreachable", A)
        node.node.run("ip", "link", "set", "pw-a", "up")


def test_a_connection_drains_before_it_is_reset(node, connect):
    serve(node, A, wish="drain=2s")
    connection = connect("client")
    serve(node, B, wish="drain=2s")
    assert connection.works()
    eventually(lambda: node.flows.run_due() or "mark=2415919103" in conntrack(node))

    assert is_reset(node, connection.client)


def conntrack(node: ServiceNode) -> str:
    return node.node.run("conntrack", "-L", "-p", "tcp")


def test_an_endpoint_that_went_while_the_proxy_was_down_is_noticed(node, connect):
    serve(node, A, wish="reset")
    connection = connect("client")
    node.world.put(service("web", WEB, on_removal="reset"), endpoint_slice("web", [B], ports=[(9090, "http")]))
    node.restart()

    assert is_reset(node, connection.client)


def test_the_connections_of_a_deleted_service_end_as_it_wished(node, connect):
    serve(node, A, wish="reset")
    connection = connect("client")
    node.sync(node.world.remove(named("web")))

    assert is_reset(node, connection.client)


def test_a_client_that_was_reset_reaches_another_endpoint_from_the_same_port(node, connect):
    serve(node, A, wish="reset")
    connection = connect("client")
    port = connection.client.getsockname()[1]
    node.put(service("web", WEB, on_removal="reset"), endpoint_slice("web", [B]))
    assert is_reset(node, connection.client)
    connection.client.close()
    eventually(lambda: node.flows.run_due() or f"sport={port}" not in conntrack(node))

    def again() -> str:
        with socket.create_connection((WEB, 80), timeout=PATIENT, source_address=("", port)) as made:
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
        answer = pool.submit(node.ask, "client", WEB)
        eventually(lambda: f"SYN_SENT src={PODS['client']} dst={WEB}" in conntrack(node))
        node.restart()
        eventually(lambda: node.flows.run_due() or answer.done())

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

        eventually(lambda: node.flows.run_due() or "dport=30053" not in node.node.run("conntrack", "-L", "-p", "udp"))


# --- packets that conntrack cannot place


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
    send(node, server, stray(connection.server, (ADDRESSES[server], 9090), connection.server.getpeername()))
    send(node, client, stray(connection.client, connection.client.getsockname(), to))

    assert connection.works()


@pytest.mark.parametrize(
    ("client", "to"), [("client", (WEB, 80)), ("outside", (EXTERNAL, 80)), ("outside", (NODE, NODE_PORT))]
)
def test_a_stray_packet_to_a_service_whose_endpoints_are_gone_resets_no_connection(node, connect, client, to):
    serve(node, A)
    connection = connect(client, "a", to)
    serve(node)
    send(node, client, stray(connection.client, connection.client.getsockname(), to))

    assert connection.works()


def test_a_stray_packet_to_a_deleted_service_resets_no_connection(node, connect):
    node.look(service_cidrs=(ip_network("10.96.0.0/16"),))
    serve(node, A)
    connection = connect("client")
    node.sync(node.world.remove(named("web")))
    # Where the packet would go, somebody would answer it.
    node.pods["remote"].run("ip", "address", "add", WEB, "dev", "lo")
    try:
        send(node, "client", stray(connection.client, connection.client.getsockname(), (WEB, 80)))
        assert connection.works()
    finally:
        node.pods["remote"].run("ip", "address", "delete", f"{WEB}/32", "dev", "lo")


@pytest.mark.parametrize(("sender", "receiver"), [("outside", "b"), ("b", "outside"), ("a", "outside")])
def test_half_of_a_connection_that_goes_another_way_back_passes(node, sender, receiver):
    addresses = {"a": A, "b": B, "outside": OUTSIDE}
    serve(node, A)
    half = IP(src=addresses[sender], dst=addresses[receiver]) / TCP(sport=7000, dport=7001, seq=7, ack=9, flags="SA")

    def listen() -> socket.socket:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)

    with node.inside(receiver, listen) as raw:
        raw.settimeout(PATIENT)
        send(node, sender, half)
        # Whatever else is under way to this address comes here too.
        while (arrived := IP(raw.recv(1000)))[TCP].dport != 7001:
            pass

    assert (arrived.src, arrived[TCP].sport) == (addresses[sender], 7000)
