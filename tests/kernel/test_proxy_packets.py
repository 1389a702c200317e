"""Connections through the real table: who answers, in which turn, and what happens when nobody does.

The node and its pods are those of tests/service_node.py. Cluster IPs: 10.96.0.10 web, 10.96.0.53 dns.
"""

import concurrent.futures
import fcntl
import itertools
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests import service_node
from tests.proxy_reading import Reading
from tests.service_node import PATIENT, PODS, REMOTE, ServiceNode, ask, ask_udp, packets_until_refused
from tests.services import endpoint, endpoint_slice, named, service
from tests.waiting import eventually

WEB = "10.96.0.10"
DNS = "10.96.0.53"
A, B, C = PODS["a"], PODS["b"], PODS["c"]


@pytest.fixture(scope="module")
def shared() -> Iterator[ServiceNode]:
    with service_node.service_node() as made:
        yield made


@pytest.fixture
def node(shared: ServiceNode) -> Iterator[ServiceNode]:
    yield shared
    shared.clear()


def web(*endpoints, **spec) -> tuple:
    return service("web", WEB, **spec), endpoint_slice("web", endpoints)


def dns(*endpoints) -> tuple:
    ports = [(8080, "dns", "UDP")]
    return service("dns", DNS, ports=[(53, "dns", "UDP")]), endpoint_slice("dns", endpoints, ports=ports)


def names(answers: list[str]) -> list[str]:
    return [answer.split()[0] for answer in answers]


# --- turns


def test_connections_are_answered_in_strict_turn(node):
    node.put(*web(A, B, C))
    answered = names(node.asks("client", 12, WEB))

    assert sorted(answered[:3]) == ["a", "b", "c"]
    assert answered == answered[:3] * 4


@pytest.mark.parametrize("endpoints", [(A, B), (A, B, C), (A, B, C, REMOTE)], ids=["two", "three", "four"])
def test_parallel_clients_share_the_turns_exactly(node, endpoints):
    node.put(*web(*endpoints))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        clients = [pool.submit(node.asks, pod, 60, WEB) for pod in ("client", "a", "node", "client", "b")]
    answered = Counter(names([answer for client in clients for answer in client.result()]))

    assert set(answered.values()) == {300 // len(endpoints)}


def test_each_service_port_has_its_own_turns(node):
    ports = [(80, "one"), (81, "two")]
    node.put(service("web", WEB, ports=ports), endpoint_slice("web", [A, B], ports=[(8080, "one"), (8081, "two")]))
    both = node.inside("client", lambda: [(ask(WEB, 80), ask(WEB, 81)) for _ in range(4)])

    for port in (0, 1):
        turns = names([pair[port] for pair in both])
        assert turns == turns[:2] * 2
        assert turns[0] != turns[1]


def test_a_replaced_endpoint_takes_the_turn_of_the_one_that_left(node):
    node.put(*web(A, B, C))
    first, _, third = names(node.asks("client", 3, WEB))
    by_name = {"a": A, "b": B, "c": C}
    node.ask("client", WEB)
    node.put(*web(by_name[first], by_name[third], REMOTE))

    assert names(node.asks("client", 3, WEB)) == ["remote", third, first]


def test_a_change_elsewhere_does_not_disturb_the_turns(node):
    node.put(*web(A, B, C))
    first = node.ask("client", WEB).split()[0]
    node.put(*dns(A, B))
    node.restart()

    assert first not in names(node.asks("client", 2, WEB))


def test_a_single_endpoint_gets_every_connection(node):
    node.put(*web(B))

    assert node.asks("client", 3, WEB) == [f"b {PODS['client']}"] * 3


def test_the_node_itself_reaches_services(node):
    node.put(*web(A, REMOTE))

    assert sorted(names(node.asks("node", 2, WEB))) == ["a", "remote"]


def test_an_endpoint_that_left_gets_no_new_connection_and_keeps_its_old(node):
    node.put(*web(A))
    with node.inside("client", lambda: socket.create_connection((WEB, 80), timeout=PATIENT)) as kept:
        assert kept.recv(100).startswith(b"a ")
        node.put(*web(B))
        assert names(node.asks("client", 3, WEB)) == ["b"] * 3
        kept.sendall(b"still here")
        # Acknowledged by the endpoint: nothing is left in the send queue.
        assert eventually(lambda: _unacknowledged(kept) == 0 or None) is True


def _unacknowledged(connection: socket.socket) -> int:
    return struct.unpack("i", fcntl.ioctl(connection, 0x5411, b"\0\0\0\0"))[0]  # SIOCOUTQ


# --- the pod that asks itself


@pytest.mark.parametrize("endpoints", [(A,), (A, B)], ids=["alone", "with another"])
def test_a_pod_reaches_itself_through_the_cluster_ip(node, endpoints):
    node.put(*web(*endpoints))
    answered = node.asks("a", len(endpoints), WEB)

    assert "a" in names(answered)
    # Nobody's own address, or the answer would not come back through conntrack.
    assert f"a {A}" not in answered


def test_others_are_seen_with_their_own_address(node):
    node.put(*web(A, REMOTE))

    assert sorted(node.asks("b", 2, WEB)) == [f"a {B}", f"remote {B}"]


# --- affinity


def test_a_client_is_kept_at_its_endpoint(node):
    node.put(*web(A, B, C, affinity=600))

    assert len(set(node.asks("client", 9, WEB))) == 1


def test_clients_are_spread_though_each_is_kept(node):
    node.put(*web(B, C, REMOTE, affinity=600))
    answers = {pod: set(names(node.asks(pod, 3, WEB))) for pod in ("client", "a", "node")}

    assert all(len(one) == 1 for one in answers.values())
    assert set.union(*answers.values()) == {"b", "c", "remote"}


def test_many_first_connections_at_once_go_where_the_first_one_went(node):
    node.put(*web(A, B, C, affinity=600))

    def race() -> set[str]:
        opened = [socket.socket() for _ in range(60)]
        for one in opened:
            one.setblocking(False)
            one.connect_ex((WEB, 80))
        answers = set()
        for one in opened:
            one.settimeout(PATIENT)
            answers.add(one.recv(100))
            one.close()
        return answers

    assert len(node.inside("client", race)) == 1


def test_a_client_whose_endpoint_is_gone_is_kept_at_another_at_once(node):
    node.put(*web(A, B, C, affinity=600))
    first = node.ask("client", WEB).split()[0]
    node.put(*web(*({"a": A, "b": B, "c": C}[name] for name in "abc" if name != first), affinity=600))
    answered = set(names(node.asks("client", 6, WEB)))

    assert len(answered) == 1
    assert first not in answered


def test_a_client_stays_when_an_endpoint_joins(node):
    node.put(*web(A, affinity=600))
    node.ask("client", WEB)
    node.put(*web(A, B, C, affinity=600))

    assert set(names(node.asks("client", 6, WEB))) == {"a"}


def test_a_client_stays_across_a_restart_of_the_proxy(node):
    node.put(*web(A, B, C, affinity=600))
    first = node.ask("client", WEB)
    node.restart()

    assert set(node.asks("client", 6, WEB)) == {first}


def test_affinity_ends_with_its_timeout(node):
    node.put(*web(A, B, affinity=1))
    first = node.ask("client", WEB)

    # Turns go on for whoever comes without memory: soon another answers.
    assert eventually(lambda: _after_silence(node, 1.2) != first)


def _after_silence(node: ServiceNode, seconds: float) -> str:
    quiet_until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > quiet_until)
    return node.ask("client", WEB)


def test_affinity_is_kept_for_each_service_port_by_itself(node):
    ports, targets = [(80, "one"), (81, "two")], [(8080, "one"), (8081, "two")]
    node.put(service("web", WEB, ports=ports, affinity=600), endpoint_slice("web", [A, B, C], ports=targets))
    node.asks("client", 3, WEB, 80)

    assert len(set(node.asks("client", 3, WEB, 81))) == 1
    assert len(node.nft.elements("affinity")) == 2


# --- nobody answers


def test_a_service_without_endpoints_refuses_at_once(node):
    node.put(*web())

    assert node.is_refused_at_once("client", WEB)
    assert node.is_refused_at_once("node", WEB)


def test_the_fiftieth_refusal_comes_as_fast_as_the_first(node):
    node.put(*web())
    packets = node.inside("client", lambda: [packets_until_refused(WEB, 80) for _ in range(50)])

    assert packets == [1] * 50


def test_a_port_the_service_does_not_have_is_refused(node):
    node.put(*web(A))

    assert node.is_refused_at_once("client", WEB, 81)


def test_udp_to_a_service_without_endpoints_is_refused(node):
    node.put(*dns())
    with node.udp_socket("client") as opened:
        opened.connect((DNS, 53))
        opened.send(b"?")

        with pytest.raises(ConnectionRefusedError):
            opened.recv(100)


def test_a_local_service_without_a_local_endpoint_drops(node):
    remote = endpoint(REMOTE, node="node2")
    node.put(*web(remote, internal_traffic_policy="Local"))

    assert node.is_ignored("client", WEB)


def test_a_local_service_stays_on_the_node(node):
    node.put(*web(A, endpoint(REMOTE, node="node2"), internal_traffic_policy="Local"))

    assert names(node.asks("client", 3, WEB)) == ["a"] * 3


def test_endpoints_shutting_down_serve_when_no_other_does(node):
    leaving = endpoint(A, ready=False, serving=True, terminating=True)
    node.put(*web(leaving))
    assert names(node.asks("client", 2, WEB)) == ["a"] * 2
    node.put(*web(leaving, B))

    assert names(node.asks("client", 2, WEB)) == ["b"] * 2


# --- UDP


def test_udp_clients_are_answered_in_strict_turn(node):
    node.put(*dns(A, B, C))
    answered = []
    for _ in range(9):
        with node.udp_socket("client") as opened:
            answered += names([ask_udp(opened, DNS, 53)])

    assert answered == answered[:3] * 3
    assert len(set(answered)) == 3


def test_tcp_and_udp_share_a_port_number(node):
    ports, targets = [(53, "dns", "UDP"), (53, "dns-tcp")], [(8080, "dns", "UDP"), (8081, "dns-tcp")]
    node.put(service("dns", DNS, ports=ports), endpoint_slice("dns", [A], ports=targets))
    with node.udp_socket("client") as opened:
        assert ask_udp(opened, DNS, 53).startswith("a ")

    assert node.ask("client", DNS, 53).startswith("a ")


def test_a_udp_socket_whose_endpoint_is_gone_is_answered_by_another(node):
    node.put(*dns(A, B))
    with node.udp_socket("client") as opened:
        first = ask_udp(opened, DNS, 53).split()[0]
        other = {"a": B, "b": A}[first]
        node.put(*dns(other))

        assert ask_udp(opened, DNS, 53).split()[0] != first


def test_a_udp_socket_is_refused_when_the_last_endpoint_is_gone(node):
    node.put(*dns(A))
    with node.udp_socket("client") as opened:
        opened.connect((DNS, 53))
        opened.send(b"?")
        assert opened.recv(100).startswith(b"a ")
        node.put(*dns())
        opened.send(b"?")

        with pytest.raises(ConnectionRefusedError):
            opened.recv(100)


def test_a_udp_socket_older_than_its_service_is_answered(node):
    node.look(service_cidrs=())
    with node.udp_socket("client") as opened:
        opened.sendto(b"?", (DNS, 53))
        eventually(lambda: DNS in node.node.run("conntrack", "-L", "-p", "udp"))
        node.put(*dns(A))

        assert ask_udp(opened, DNS, 53).startswith("a ")


def test_a_udp_socket_stays_while_its_endpoint_only_finishes(node):
    node.put(*dns(A))
    with node.udp_socket("client") as opened:
        ask_udp(opened, DNS, 53)
        node.put(*dns(endpoint(A, ready=False, serving=True, terminating=True), B))

        assert ask_udp(opened, DNS, 53).startswith("a ")


def test_flows_to_other_services_are_left_alone(node):
    node.put(*dns(A))
    node.put(
        service("other", "10.96.0.54", ports=[(53, "dns", "UDP")]),
        endpoint_slice("other", [B], ports=[(8080, "dns", "UDP")]),
    )
    with node.udp_socket("client") as opened:
        ask_udp(opened, "10.96.0.54", 53)
        before = node.node.run("conntrack", "-L", "-p", "udp", "-d", "10.96.0.54").split("sport=")[1]
        node.put(*dns(B))

        assert node.node.run("conntrack", "-L", "-p", "udp", "-d", "10.96.0.54").split("sport=")[1] == before


# --- what a connection's mark tells


def test_the_conntrack_mark_of_a_connection_is_its_endpoint(node):
    node.put(*web(A, B))
    answers = [node.ask("client", WEB).split()[0] for _ in range(2)]
    ids = {target: int.from_bytes(key, "little") for key, target in Reading(node.nft).ids.items()}

    for answer, address in itertools.product(answers, (A, B)):
        listed = node.node.run("conntrack", "-L", "-m", str(ids[f"{address}:8080"]), "-r", address)
        assert listed.count(f"src={address}") == 1, answer


def test_every_endpoint_counts_its_connections(node):
    node.put(*web(A, B))
    node.asks("client", 6, WEB)
    listed = node.node.run("nft", "list", "map", "ip", "podwire-proxy", "endpoints")

    assert listed.count("packets 3 ") == 2


def test_a_service_that_is_deleted_is_no_longer_refused(node):
    node.put(*web())
    node.sync(node.world.remove(named("web")))

    # Its address is nobody's: the packet goes where the node's routes lead.
    assert node.is_ignored("client", WEB)


# --- weights


def test_endpoints_get_connections_by_weight(node):
    node.put(service("web", WEB), endpoint_slice("web", [A, B], weights={A: 3, B: 1}))
    answered = names(node.asks("client", 12, WEB))
    generation = node.nft.generation()
    node.restart()

    assert Counter(answered) == {"a": 9, "b": 3}
    assert answered == answered[:4] * 3
    assert node.nft.generation() == generation
