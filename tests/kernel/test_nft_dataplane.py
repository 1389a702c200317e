"""Real connections through the Service layout: a text skeleton, filled and changed through commit().

Address plan: client 192.0.2.1 and .2 — node — backend 198.51.100.1, .2, .3 port 8080 tcp and udp.
Services 10.96.0.10 (round robin) and 10.96.0.20 (affinity), port 80.
"""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from dataplane.nft import expressions, values
from dataplane.nft.linux import LinuxNft
from dataplane.nft.objects import (
    AddChain,
    AddElements,
    AddRule,
    Chain,
    DeleteElements,
    Element,
    Family,
    Operation,
    ReplaceRule,
    Rule,
    Table,
)
from dataplane.nft.values import Verdict, mark
from tests import namespaces
from tests.namespaces import Namespace
from tests.service_node import PATIENT

TABLE = Table(Family.IP, "podwire-test")
SKELETON = """table ip podwire-test {
    map endpoints { type mark : ipv4_addr . inet_service; counter; }
    map ring { type mark : mark; }
    map affinity { type ipv4_addr . mark : mark; flags dynamic,timeout; size 65536; }
    map services { type ipv4_addr . inet_proto . inet_service : verdict; }
    chain to-endpoint {
        meta l4proto tcp dnat ip to ct mark map @endpoints
        meta l4proto udp dnat ip to ct mark map @endpoints
    }
    chain pick { ct mark set ct mark map @ring goto to-endpoint; }
    chain sticky-60 {
        ct mark set ip saddr . meta mark map @affinity update @affinity { ip saddr . meta mark timeout 60s : ct mark } jump to-endpoint
    }
    chain stick-60 {
        ct mark set ct mark map @ring delete @affinity { ip saddr . meta mark : ct mark }
        add @affinity { ip saddr . meta mark timeout 60s : ct mark } goto to-endpoint
    }
    chain pre { type nat hook prerouting priority dstnat; ip daddr . meta l4proto . th dport vmap @services; }
}"""
CLIENTS = ("192.0.2.1", "192.0.2.2")
A, B, C = BACKENDS = ("198.51.100.1", "198.51.100.2", "198.51.100.3")
ENDPOINTS = {A: 1, B: 2, C: 3}
PORT = 8080
ROUND_ROBIN, STICKY = "10.96.0.10", "10.96.0.20"
STICKY_ID = 0x77


def endpoint(address: str) -> Element:
    return Element(
        mark(ENDPOINTS[address]), values.concat(values.ipv4(IPv4Address(address)), values.port(PORT)), address
    )


def ring(first: int, *addresses: str) -> tuple[Element, ...]:
    return tuple(Element(mark(first + turn), mark(ENDPOINTS[address])) for turn, address in enumerate(addresses))


def service(address: str, protocol: int, chain: str) -> Element:
    key = values.concat(values.ipv4(IPv4Address(address)), values.proto(protocol), values.port(80))
    return Element(key, Verdict("goto", chain), chain)


def two_services() -> list[Operation]:
    return [
        AddElements("endpoints", tuple(endpoint(address) for address in BACKENDS)),
        AddElements("ring", ring(40, A, B, C) + ring(50, A, B, C)),
        AddChain(Chain("svc-a")),
        AddRule(Rule("svc-a", expressions.ct_mark_set_numgen(3, 40))),
        AddRule(Rule("svc-a", expressions.goto("pick"))),
        AddChain(Chain("svc-b")),
        AddRule(Rule("svc-b", expressions.meta_mark_set_jump(STICKY_ID, "sticky-60"))),
        AddRule(Rule("svc-b", expressions.ct_mark_set_numgen(3, 50))),
        AddRule(Rule("svc-b", expressions.goto("stick-60"))),
        AddElements("services", tuple(service(ROUND_ROBIN, protocol, "svc-a") for protocol in (6, 17))),
        AddElements("services", (service(STICKY, 6, "svc-b"),)),
    ]


def two_endpoints_left(nft: LinuxNft) -> list[Operation]:
    """What a proxy commits when endpoint B of the round robin Service is gone: a new ring takes a fresh range."""
    numgen = nft.rules("svc-a")[0]
    return [
        AddElements("ring", ring(60, A, C)),
        ReplaceRule(Rule("svc-a", expressions.ct_mark_set_numgen(2, 60)), numgen.handle),
        DeleteElements("ring", ring(40, A, B, C)),
        DeleteElements("endpoints", (endpoint(B),)),
    ]


@dataclass(frozen=True)
class Network:
    client: Namespace
    nft: LinuxNft

    def connect(self, service_address: str, *, source: str = CLIENTS[0]) -> socket.socket:
        def dial() -> socket.socket:
            return socket.create_connection((service_address, 80), timeout=PATIENT, source_address=(source, 0))

        return self.client.call(dial)

    def ask(self, service_address: str, *, source: str = CLIENTS[0]) -> str:
        """The address of the backend that answers a new TCP connection."""
        with self.connect(service_address, source=source) as connection:
            return say(connection)

    def ask_udp(self, service_address: str) -> str:
        with self.client.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
            asking.settimeout(PATIENT)
            asking.connect((service_address, 80))
            return say(asking)


def say(connection: socket.socket) -> str:
    connection.sendall(b"who are you?\n")
    return connection.recv(100).decode()


def serve_tcp(listening: socket.socket) -> None:
    with suppress(OSError):  # the socket was closed
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=answer_tcp, args=(connection,), daemon=True).start()


def answer_tcp(connection: socket.socket) -> None:
    with connection:
        while connection.recv(100):
            connection.sendall(connection.getsockname()[0].encode())


def serve_udp(bound: socket.socket) -> None:
    with suppress(OSError):
        while (peer := bound.recvfrom(100)[1]) is not None:
            bound.sendto(bound.getsockname()[0].encode(), peer)


def listen(backend: Namespace, kind: socket.SocketKind, address: str) -> socket.socket:
    def make() -> socket.socket:
        bound = socket.socket(socket.AF_INET, kind)
        bound.bind((address, PORT))
        return bound

    return backend.call(make)


def start_backends(backend: Namespace, stack: ExitStack) -> None:
    for address in BACKENDS:
        stream, datagram = listen(backend, socket.SOCK_STREAM, address), listen(backend, socket.SOCK_DGRAM, address)
        stream.listen(128)
        for serve, bound in ((serve_tcp, stream), (serve_udp, datagram)):
            thread = threading.Thread(target=serve, args=(bound,), daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(bound.close)
            stack.callback(stop_receiving, bound)


def stop_receiving(bound: socket.socket) -> None:
    # Closing alone does not wake a thread that waits in accept or recvfrom; shutdown does, also where it is an error.
    with suppress(OSError):
        bound.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def network(make_namespace) -> Iterator[Network]:
    client, node, backend = make_namespace("client"), make_namespace("node"), make_namespace("backend")
    namespaces.connect(client, f"{CLIENTS[0]}/24", node, "192.0.2.254/24", device="left")
    client.run("ip", "address", "add", f"{CLIENTS[1]}/24", "dev", "left")
    client.run("ip", "route", "add", "default", "via", "192.0.2.254")
    namespaces.connect(node, "198.51.100.254/24", backend, f"{A}/24", device="right")
    for address in (B, C):
        backend.run("ip", "address", "add", f"{address}/24", "dev", "right")
    backend.run("ip", "route", "add", "default", "via", "198.51.100.254")
    node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    with ExitStack() as stack:
        start_backends(backend, stack)
        file = stack.enter_context(open(node.path))
        nft = stack.enter_context(LinuxNft(TABLE, netns_fd=file.fileno()))
        nft.load(SKELETON)
        nft.commit(two_services())
        yield Network(client, nft)


def test_connections_take_strict_turns(network):
    assert [network.ask(ROUND_ROBIN) for _ in range(9)] == [A, B, C] * 3


def test_udp_flows_take_strict_turns(network):
    assert [network.ask_udp(ROUND_ROBIN) for _ in range(6)] == [A, B, C] * 2


def test_another_service_does_not_disturb_the_turns(network):
    answers = []
    for _ in range(6):
        answers.append(network.ask(ROUND_ROBIN))
        network.ask(STICKY)

    assert answers == [A, B, C] * 2


def test_a_new_ring_takes_over_between_two_connections(network):
    assert network.ask(ROUND_ROBIN) == A

    network.nft.commit(two_endpoints_left(network.nft))

    assert [network.ask(ROUND_ROBIN) for _ in range(4)] == [A, C] * 2


def test_an_open_connection_survives_a_new_ring(network):
    with network.connect(ROUND_ROBIN) as connection:
        assert say(connection) == A

        network.nft.commit(two_endpoints_left(network.nft))

        assert say(connection) == A


def test_a_client_with_affinity_stays_with_its_endpoint(network):
    assert [network.ask(STICKY) for _ in range(5)] == [A] * 5


def test_each_client_has_an_affinity_of_its_own(network):
    answers = [[network.ask(STICKY, source=source) for source in CLIENTS] for _ in range(3)]

    assert answers == [[A, B]] * 3


def test_affinity_heals_when_its_endpoint_is_removed(network):
    assert network.ask(STICKY) == A

    network.nft.commit([DeleteElements("endpoints", (endpoint(A),))])
    network.nft.commit(replace_sticky_ring(network.nft, ring(70, B, C)))

    assert [network.ask(STICKY) for _ in range(4)] == [B] * 4


def test_affinity_survives_a_new_ring(network):
    network.ask(STICKY, source=CLIENTS[1])
    assert network.ask(STICKY) == B

    network.nft.commit(replace_sticky_ring(network.nft, ring(70, C, A, B)))

    assert [network.ask(STICKY) for _ in range(4)] == [B] * 4


def replace_sticky_ring(nft: LinuxNft, elements: tuple[Element, ...]) -> list[Operation]:
    numgen = nft.rules("svc-b")[1]
    first = values.mark_number(elements[0].key)
    rule = Rule("svc-b", expressions.ct_mark_set_numgen(len(elements), first))
    return [
        AddElements("ring", elements),
        ReplaceRule(rule, numgen.handle),
        DeleteElements("ring", ring(50, A, B, C)),
    ]


def test_an_affinity_entry_names_client_service_and_endpoint(network):
    network.ask(STICKY)

    (entry,) = network.nft.elements("affinity")

    assert entry.key == values.concat(values.ipv4(IPv4Address(CLIENTS[0])), mark(STICKY_ID))
    assert entry.value == mark(ENDPOINTS[A])


def test_each_endpoint_counts_its_connections_across_rings(network):
    for _ in range(4):
        network.ask(ROUND_ROBIN)
    network.nft.commit(two_endpoints_left(network.nft))
    for _ in range(4):
        network.ask(ROUND_ROBIN)

    counts = re.findall(r'counter packets (\d+) bytes \d+ comment "([\d.]+)"', network.nft.list_ruleset())

    assert {address: int(count) for count, address in counts} == {A: 4, C: 3}


def test_connections_never_fail_while_the_ring_is_replaced_again_and_again(network):
    stop = threading.Event()

    def replace_forever() -> None:
        first, old = 100, ring(40, A, B, C)
        while not stop.is_set():
            new = ring(first, A, B, C)
            rule = Rule("svc-a", expressions.ct_mark_set_numgen(3, first))
            handle = network.nft.rules("svc-a")[0].handle
            network.nft.commit([AddElements("ring", new), ReplaceRule(rule, handle)])
            # Not in the same transaction, nor at once: a packet under way follows the old rule and looks up new elements.
            network.nft.settle()
            network.nft.commit([DeleteElements("ring", old)])
            first, old = first + 3, new

    thread = threading.Thread(target=replace_forever)
    thread.start()
    try:
        answers = {network.ask(ROUND_ROBIN) for _ in range(300)}
    finally:
        stop.set()
        thread.join()
    assert answers <= set(BACKENDS)
