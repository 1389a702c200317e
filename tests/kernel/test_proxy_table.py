"""The proxy's table in the kernel: readable, reloadable, taken over and repaired without a gap, and nobody else's touched.

The node and its pods are those of tests/service_node.py. Cluster IPs: 10.96.0.10 and up.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Self

import msgspec
import pytest

from dataplane.nft.linux import LinuxNft
from kube.control import SyncFailed
from proxy import layout, text
from proxy import state as states
from proxy.planning import Planner
from proxy.served import NOT_SERVED
from proxy.writer import STAND_IN
from tests import service_node
from tests.namespaces import namespace
from tests.proxy_reading import Reading
from tests.service_node import NODE_KEY, OUTSIDE, PODS, ServiceNode, ask
from tests.services import RULESET, World, endpoint, endpoint_slice, named, service
from tests.syn_stream import SynStream
from tests.waiting import eventually

A, B, C = PODS["a"], PODS["b"], PODS["c"]
WEB = "10.96.0.10"


@pytest.fixture(scope="module")
def shared() -> Iterator[ServiceNode]:
    with service_node.service_node() as made:
        yield made


@pytest.fixture
def node(shared: ServiceNode) -> Iterator[ServiceNode]:
    shared.restart()
    yield shared
    shared.restart()
    shared.clear()


def fill(world: World) -> None:
    """One Service of every kind."""
    world.put(service("web", WEB), endpoint_slice("web", [A, B, C]))
    world.put(service("one", "10.96.0.11"), endpoint_slice("one", [endpoint(A, node=None)]))
    world.put(service("sticky", "10.96.0.12", affinity=600), endpoint_slice("sticky", [A, B]))
    world.put(service("nobody", "10.96.0.13"))
    far = endpoint("10.244.2.6", node="node2")
    world.put(service("local", "10.96.0.14", internal_traffic_policy="Local"), endpoint_slice("local", [far]))
    ports = [(53, "dns", "UDP"), (53, "dns-tcp"), (9, "", "SCTP")]
    targets = [(5353, "dns", "UDP"), (5353, "dns-tcp"), (9, "", "SCTP")]
    world.put(service("dns", "10.96.0.53", ports=ports), endpoint_slice("dns", [A, B], ports=targets))


def listing(node: ServiceNode) -> str:
    return node.node.run("nft", "list", "ruleset")


# --- for people


def test_the_listing_loads_back(node):
    fill(node.world)
    node.sync(*node.world.names())
    node.asks("client", 3, "10.96.0.12")

    node.node.run("nft", "-c", "-f", "-", stdin=listing(node))
    with namespace("copy") as copy:
        copy.run("nft", "-f", "-", stdin=listing(node))


def test_the_listing_names_services(node):
    fill(node.world)
    node.sync(*node.world.names())
    listed = " ".join(listing(node).split())

    assert '10.96.0.10 . tcp . 80 comment "default/web:http" : goto svc-' in listed
    assert '10.96.0.11 . tcp . 80 comment "default/one:http" : 0x4000' in listed
    assert '10.96.0.14 . tcp . 80 comment "default/local:http" : drop' in listed
    assert '10.96.0.13 comment "default/nobody"' in listed
    assert 'comment "default/web:http" ct mark set numgen inc mod 3 offset' in listed


def test_names_of_any_length_and_spelling_are_served(node):
    names = [f"{'n' * 63}{index}" for index in range(2)]
    for index, name in enumerate([*names, 'quote"d', "ünïcode\n"]):
        ports, targets = [(80, "p" * 300)], [(8080, "p" * 300)]
        slices = endpoint_slice(name, [A, B], ports=targets)
        node.world.put(service(name, f"10.96.1.{index}", ports=ports), slices)
    node.sync(*node.world.names())

    assert len(Reading(node.nft).ways) == 4
    node.node.run("nft", "-c", "-f", "-", stdin=listing(node))


def test_the_skeleton_has_the_rules_that_are_counted_in_its_text(node):
    node.put(service(affinity=600), endpoint_slice("web", [A]))
    found = {chain: len(rules) for chain, rules in node.nft.all_rules().items() if not chain.startswith("svc-")}
    node_counts = {
        chain: count for chain, count in RULESET.node(node.here, has_node_ports=False).rule_counts().items() if count
    }

    assert found == {**RULESET.rule_counts(), **RULESET.affinity_rule_counts(600), **node_counts}


def test_a_state_as_text_is_the_state_the_kernel_then_has(node):
    fill(node.world)
    planner = Planner(node.world, node="node1", family="IPv4")
    wanted = states.union(planner.draft(name, NOT_SERVED).new.state for name in node.world.names())
    parts = RULESET.replacement, RULESET.affinity_chains(600), text.format_state(wanted, RULESET.table)
    with contextlib.ExitStack() as stack:
        netns = stack.enter_context(open(stack.enter_context(namespace("text")).path))
        nft = stack.enter_context(LinuxNft(RULESET.table, netns_fd=netns.fileno()))
        nft.load("\n".join(parts))
        found = {
            (name, element.key): (element.value, element.comment)
            for name in layout.WRITTEN
            for element in nft.elements(name)
        }
        rules = {name: tuple(rule.expressions for _, rule in nft.rules(name)) for name in wanted.chains}

    assert found == {(name, element.key): (element.value, element.comment) for name, element in wanted.entries()}
    assert rules == {name: content.rules for name, content in wanted.chains.items()}


# --- restart


def test_a_restart_writes_nothing_to_the_kernel(node):
    fill(node.world)
    node.sync(*node.world.names())
    node.sweep()
    generation = node.nft.generation()
    node.restart()
    node.sweep()

    assert node.nft.generation() == generation


def test_a_restart_does_not_begin_the_turns_anew(node):
    node.put(service(), endpoint_slice("web", [A, B, C]))
    first = node.ask("client", WEB)
    node.restart()

    assert first not in node.asks("client", 2, WEB)


def test_counters_go_on_after_a_restart(node):
    node.put(service(), endpoint_slice("web", [A]))
    node.asks("client", 2, WEB)
    node.restart()
    node.asks("client", 2, WEB)

    assert "packets 4 " in node.node.run("nft", "list", "map", "ip", "podwire-proxy", "endpoints")


# --- others


FOREIGN = "table ip other { chain c { type filter hook forward priority 0; }; set s { type ipv4_addr; elements = { 192.0.2.1 }; }; }"


def test_tables_of_others_are_left_alone(node):
    node.node.run("nft", "-f", "-", stdin=FOREIGN)
    before = node.node.run("nft", "list", "table", "ip", "other")
    fill(node.world)
    node.sync(*node.world.names())
    node.node.run("nft", "delete", "table", "ip", "podwire-proxy")
    node.restart()
    after = node.node.run("nft", "list", "table", "ip", "other")
    node.node.run("nft", "delete", "table", "ip", "other")

    assert after == before


DAMAGES = [
    "flush ruleset",
    "flush table ip podwire-proxy",
    "flush chain ip podwire-proxy to-endpoint",
    "flush chain ip podwire-proxy kept",
    "flush map ip podwire-proxy endpoints",
    "flush map ip podwire-proxy services",
    "flush set ip podwire-proxy cluster-ips",
    "add rule ip podwire-proxy dispatch drop",
    "insert rule ip podwire-proxy pick accept",
    "add element ip podwire-proxy services { 10.96.0.10 . tcp . 81 : drop }",
    "add element ip podwire-proxy ring { 0x3fffffff : 0x1 }",
    "add chain ip podwire-proxy mine { type filter hook input priority 0; }",
    "delete chain ip podwire-proxy prerouting",
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_others_do_to_the_table_is_undone(node, damage):
    fill(node.world)
    node.sync(*node.world.names())
    # Rules and what they count are others' business, and ids and turns may be new: only the meaning must be the same.
    before = Reading(node.nft)
    node.node.run("nft", damage)
    node.restart()
    node.sweep()
    after = Reading(node.nft)

    assert {front: way.targets for front, way in after.ways.items()} == {
        front: way.targets for front, way in before.ways.items()
    }
    assert after.chains == before.chains
    assert after.cluster_ips == before.cluster_ips
    assert node.ask("client", WEB)


# --- another version's table


def other_version(node: ServiceNode) -> None:
    """Make the table look as if another version had made it."""
    listed = node.node.run("nft", "list", "table", "ip", "podwire-proxy")
    changed = listed.replace(RULESET.layout, "layout 0123456789abcdef")
    node.node.run("nft", "-f", "-", stdin=f"delete table ip podwire-proxy\n{changed}")


def test_a_table_of_another_version_is_replaced(node):
    fill(node.world)
    node.sync(*node.world.names())
    before = Reading(node.nft)
    other_version(node)
    node.restart()
    after = Reading(node.nft)

    assert RULESET.layout in listing(node)
    assert after.ways == before.ways
    assert after.ids == before.ids


FORMER = """
table ip podwire-proxy {
    map endpoints { type ipv4_addr : mark; elements = { 198.51.100.1 : 0x40002001 }; }
    map ring { type mark : ipv4_addr . inet_service; elements = { 1 : 198.51.100.1 . 80 }; }
    map services { type inet_service : verdict; elements = { 80 : drop }; }
    set affinity { type ipv4_addr; elements = { 198.51.100.1 }; }
    chain dispatch { comment "layout of long ago"; }
    chain old { type filter hook forward priority 0; drop; }
}
"""


def test_a_table_of_quite_another_form_is_replaced(node):
    fill(node.world)
    node.nft.delete_table()
    node.node.run("nft", "-f", "-", stdin=FORMER)
    node.restart()

    assert len(Reading(node.nft).ways) == 7
    assert node.ask("client", WEB)
    assert "198.51.100.1" not in listing(node)


def test_clients_stay_where_they_were_when_the_table_is_replaced(node):
    node.put(service(affinity=600), endpoint_slice("web", [A, B, C]))
    first = node.ask("client", WEB)
    other_version(node)
    node.restart()

    assert set(node.asks("client", 6, WEB)) == {first}


class Stream:
    """A client that connects again and again; what did not work."""

    def __init__(self, node: ServiceNode) -> None:
        self.failures: list[str] = []
        self.answered = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=node.inside, args=("client", self._connect))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def await_more(self) -> None:
        seen = self.answered
        eventually(lambda: self.answered > seen + 20 or self.failures)

    def _connect(self) -> None:
        while not self._stop.is_set():
            try:
                ask(WEB, 80)
                self.answered += 1
            except OSError as error:
                self.failures.append(f"{time.monotonic()}: {error!r}")


@pytest.mark.parametrize(("event", "rounds"), [("restart", 10), ("churn", 200)])
def test_no_connection_fails_while_the_table_changes(node, event, rounds):
    fill(node.world)
    node.sync(*node.world.names())
    with Stream(node) as stream:
        stream.await_more()
        for round_number in range(rounds):
            if event == "churn":
                node.put(service(), endpoint_slice("web", [A, B, C][: 1 + round_number % 3]))
            else:
                node.restart()
        stream.await_more()

    assert stream.failures == []


def test_no_connection_fails_while_the_table_is_replaced(node):
    """Rules of the old table find its maps empty from the moment of the replacement: a stand-in takes their packets."""
    fill(node.world)
    node.sync(*node.world.names())
    with node.inside("client", lambda: SynStream(PODS["client"], WEB, 80)) as stream:
        for _ in range(10):
            sent = stream.sent
            other_version_in_place(node)
            node.restart()
            eventually(lambda before=sent: stream.sent > before + 2000)
        eventually(lambda: stream.answered > 1000)

    assert stream.refused == 0
    assert STAND_IN not in listing(node)


def test_what_connections_through_this_node_led_to_is_remembered_when_the_table_is_replaced(node):
    node.put(service(), endpoint_slice("web", [A]))
    node.ask("client", WEB)
    other_version_in_place(node)
    node.restart()

    assert f"{A} . tcp . 8080 " in node.node.run("nft", "list", "set", "ip", "podwire-proxy", "repliers")


def test_what_a_killed_proxy_left_standing_in_is_removed(node):
    node.put(service(), endpoint_slice("web", [A]))
    node.node.run("nft", "add", "table", "ip", STAND_IN)
    node.restart()

    assert STAND_IN not in listing(node)


def other_version_in_place(node: ServiceNode) -> None:
    """Rules too many: not whole, so it is replaced. So many that a packet is always between those that look up."""
    slow = f"insert rule ip podwire-proxy pick ip saddr {OUTSIDE} continue\n" * 2000
    node.node.run("nft", "-f", "-", stdin=slow)


# --- a node that cannot be written


@pytest.mark.parametrize("is_new_table", [False, True], ids=["while it runs", "at its start"])
def test_what_nft_refuses_of_the_node_holds_up_no_service(node, is_new_table):
    node.here = msgspec.structs.replace(node.here, pod_interface='not"a name')
    if is_new_table:
        node.nft.delete_table()
        with contextlib.suppress(SyncFailed):
            node.restart()
    node.world.put(service(), endpoint_slice("web", [A]))
    with pytest.raises(SyncFailed) as failed:
        node.sync(named("web"), NODE_KEY)
    assert failed.value.failures.keys() == {NODE_KEY}
    assert node.ask("client", WEB).startswith("a ")
    node.look(pod_interface="")

    assert "from-outside comment" in listing(node)


# --- chains that go


def test_chains_of_services_that_are_gone_are_deleted(node):
    node.put(service(), endpoint_slice("web", [A, B]))
    node.sync(node.world.remove(named("web")))
    node.sweep()

    fixed = RULESET.rule_counts().keys() | layout.NODE_CHAINS
    assert {chain.name for chain in node.nft.chains()} == fixed - layout.LOCALHOST_CHAINS


def test_a_chain_somebody_else_refers_to_does_not_stop_the_rest(node):
    node.put(service(), endpoint_slice("web", [A, B]))
    node.put(service("two", "10.96.0.20"), endpoint_slice("two", [A, B]))
    kept = next(chain.name for chain in node.nft.chains() if chain.name.endswith("web/http/tcp"))
    node.node.run("nft", "add", "chain", "ip", "podwire-proxy", "mine")
    node.node.run("nft", "add", "rule", "ip", "podwire-proxy", "mine", "jump", kept)
    node.sync(node.world.remove(named("web")), node.world.remove(named("two")))
    node.later.clear()
    node.sync(("", "sweep"))

    assert node.syncer.chains_not_deleted == 1
    assert {chain.name for chain in node.nft.chains()} - (RULESET.rule_counts().keys() | layout.NODE_CHAINS) == {
        kept,
        "mine",
    }
