"""Laws of the sync: whatever happened before, the table says what the API says, and nothing is written twice."""

import ipaddress
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.nft import values
from dataplane.nft.interface import Failure, TransactionFailed
from dataplane.nft.objects import (
    AddElements,
    AddRule,
    DeleteElements,
    Element,
    FlushChain,
    Operation,
    ReplaceRule,
    Rule,
)
from dataplane.nft.values import Verdict
from kube.control import SyncFailed
from proxy import layout
from proxy.planning import Planner
from proxy.sync import RESYNC, SWEEP, Syncer
from proxy.writer import LeftoversRemain
from tests.proxy_reading import Front, Reading, Way
from tests.services import RULESET, FakeTable, World, endpoint, endpoint_slice, named, service

# --- the machine under test


class Rig:
    """A world, a table in memory and a proxy between them, driven by hand."""

    def __init__(self, table: FakeTable | None = None, world: World | None = None) -> None:
        self.world = world or World()
        self.table = table or FakeTable()
        self.later: list = []
        self.restart()
        self.sync(RESYNC)

    def restart(self) -> None:
        self.planner = Planner(self.world, node="node1", family="IPv4")
        self.syncer = Syncer(
            self.table,
            RULESET,
            self.planner,
            later=lambda key, seconds: self.later.append(key),
        )

    def sync(self, *names) -> None:
        self.syncer.sync(frozenset(names))

    def sweep(self) -> None:
        while self.later:
            self.later.clear()
            self.sync(SWEEP)

    def read(self) -> Reading:
        return Reading(self.table)


WEB = Front("10.96.0.10", "TCP", 80)


def web(*endpoints: str, **spec) -> tuple:
    return service(**spec), endpoint_slice("web", endpoints)


# --- any history


@dataclass(frozen=True)
class Wanted:
    """One Service of a world, in few words."""

    index: int
    ports: int = 1
    affinity: int | None = None
    local_only: bool = False
    endpoints: dict = field(default_factory=dict)  # last octet → conditions

    @property
    def name(self) -> str:
        return f"svc{self.index}"

    @property
    def cluster_ip(self) -> str:
        return f"10.96.0.{10 + self.index}"

    def put(self, world: World, *, split: bool = False, reverse: bool = False) -> None:
        ports = [(80 + index, f"p{index}", ("TCP", "UDP")[index % 2]) for index in range(self.ports)]
        targets = [(8080 + index, f"p{index}", ("TCP", "UDP")[index % 2]) for index in range(self.ports)]
        entries = [
            endpoint(f"10.244.0.{octet}", node=f"node{1 + octet % 2}", **conditions)
            for octet, conditions in self.endpoints.items()
        ]
        if reverse:
            entries.reverse()
        parts = [[entry] for entry in entries] if split else [entries, entries]
        slices = [endpoint_slice(self.name, part, ports=targets, name=f"s{i}") for i, part in enumerate(parts)]
        policy = "Local" if self.local_only else "Cluster"
        world.put(
            service(self.name, self.cluster_ip, ports=ports, affinity=self.affinity, internal_traffic_policy=policy),
            *slices,
        )

    def expected(self) -> dict[Front, Way]:
        ways = ((Front(self.cluster_ip, ("TCP", "UDP")[i % 2], 80 + i), self._way(8080 + i)) for i in range(self.ports))
        return {front: way for front, way in ways if way is not None}

    def _way(self, port: int) -> Way | None:
        everywhere = _usable(self.endpoints)
        here = _usable({octet: said for octet, said in self.endpoints.items() if octet % 2 == 0})
        chosen = here if self.local_only else everywhere
        if not chosen:
            return Way(dropped=True) if everywhere else None
        return Way(tuple(f"10.244.0.{octet}:{port}" for octet in chosen), self.affinity)


def _usable(endpoints: dict) -> list[int]:
    ready = [octet for octet, said in endpoints.items() if said.get("ready") is not False]
    return ready or [octet for octet, said in endpoints.items() if said["terminating"] and said["serving"]]


CONDITIONS = st.sampled_from(
    [
        {},
        {"ready": True},
        {"ready": False, "serving": True, "terminating": True},
        {"ready": False, "serving": False, "terminating": False},
    ]
).map(lambda said: {"serving": True, "terminating": False, **said} if said else {"serving": True, "terminating": False})
ENDPOINTS = st.dictionaries(st.integers(2, 8), CONDITIONS, max_size=5)


def wanted(index: int) -> st.SearchStrategy[Wanted | None]:
    return st.none() | st.builds(
        Wanted,
        index=st.just(index),
        ports=st.integers(1, 3),
        affinity=st.sampled_from([None, None, 60, 90]),
        local_only=st.booleans(),
        endpoints=ENDPOINTS,
    )


WORLDS = st.tuples(*(wanted(index) for index in range(3)))


def change_to(rig: Rig, wish: tuple, **form: bool) -> frozenset:
    for index, one in enumerate(wish):
        if one is None:
            rig.world.remove(named(f"svc{index}"))
        else:
            one.put(rig.world, **form)
    return frozenset(named(f"svc{index}") for index in range(3))


def assert_says(rig: Rig, wish: tuple) -> None:
    expected = {front: way for one in wish if one for front, way in one.expected().items()}
    found = rig.read()
    assert found.ways.keys() == expected.keys()
    for front, way in expected.items():
        met = found.ways[front]
        assert sorted(met.turns) == sorted(way.turns)
        assert (met.affinity or way.affinity) == way.affinity
        assert met.dropped == way.dropped
    assert found.cluster_ips == {one.cluster_ip for one in wish if one}
    own = {position for position in found.positions if position in layout.RING_POSITIONS}
    ids = found.positions.keys() - own
    assert _taken(rig) == (_shares({*ids, *map(values.mark_number, found.ids)}), own)


def _shares(ids: Iterable[int]) -> set[int]:
    return {id_ // layout.IDS_A_PORT for id_ in ids}


def _taken(rig: Rig) -> tuple[set[int], set[int]]:
    """The shares of ids, and the ring positions, that are in use."""
    identities = rig.planner._identities
    return identities._shares._taken, identities._positions._taken


HISTORY = settings(max_examples=60)


@HISTORY
@given(st.lists(WORLDS, min_size=1, max_size=4))
def test_after_any_history_the_table_says_what_the_api_says(history):
    rig = Rig()
    for wish in history:
        rig.sync(*change_to(rig, wish))
        assert_says(rig, wish)


@HISTORY
@given(st.lists(WORLDS, min_size=1, max_size=3))
def test_syncing_again_writes_nothing(history):
    rig = Rig()
    for wish in history:
        names = change_to(rig, wish)
        rig.sync(*names)
        written = rig.table.operations
        rig.sync(*names)
        assert rig.table.operations == written


@HISTORY
@given(st.lists(WORLDS, min_size=1, max_size=3))
def test_a_restart_writes_nothing(history):
    rig = Rig()
    for wish in history:
        rig.sync(*change_to(rig, wish))
    rig.sweep()
    written, loaded = rig.table.operations, len(rig.table.loaded)

    rig.restart()
    rig.sync(RESYNC)
    rig.sweep()

    assert (rig.table.operations, len(rig.table.loaded)) == (written, loaded)
    assert_says(rig, history[-1])


@HISTORY
@given(WORLDS, WORLDS)
def test_changes_missed_while_down_are_written_after_the_restart(before, after):
    rig = Rig()
    rig.sync(*change_to(rig, before))
    change_to(rig, after)

    rig.restart()
    rig.sync(RESYNC)

    assert_says(rig, after)


@HISTORY
@given(WORLDS, st.booleans(), st.booleans())
def test_the_order_and_the_cut_of_slices_make_no_difference(wish, split, reverse):
    plain, other = Rig(), Rig()
    plain.sync(*change_to(plain, wish))
    other.sync(*change_to(other, wish, split=split, reverse=reverse))

    assert plain.table.list_ruleset() == other.table.list_ruleset()


@HISTORY
@given(WORLDS, WORLDS)
def test_change_and_revert_leave_no_trace(wish, other):
    rig = Rig()
    rig.sync(*change_to(rig, wish))
    rig.sweep()
    before = rig.read()
    rig.sync(*change_to(rig, other))
    rig.sync(*change_to(rig, wish))
    rig.sweep()
    after = rig.read()

    assert after.chains == before.chains
    assert {front: sorted(way.turns) for front, way in after.ways.items()} == {
        front: sorted(way.turns) for front, way in before.ways.items()
    }
    assert after.hairpin == before.hairpin


@HISTORY
@given(WORLDS, st.data())
def test_whatever_somebody_else_does_to_the_table_is_undone(wish, data):
    rig = Rig()
    rig.sync(*change_to(rig, wish))
    data.draw(st.sampled_from(DAMAGES))(rig.table)

    rig.sync(RESYNC)
    rig.sweep()

    assert_says(rig, wish)


def _flush_every_map(table: FakeTable) -> None:
    table.commit([DeleteElements(name, table.elements(name)) for name in layout.WRITTEN if table.elements(name)])


def _flush_every_chain(table: FakeTable) -> None:
    table.commit([FlushChain(chain.name) for chain in table.chains()])


def _add_nonsense(table: FakeTable) -> None:
    mark = b"\1\0\0\x70"
    table.commit(
        [
            AddRule(Rule("to-endpoint", ())),
            AddElements("ring", (Element(mark, mark),)),
            AddElements("cluster-ips", (Element(b"\1\2\3\4"),)),
        ]
    )


def _forget_endpoints(table: FakeTable) -> None:
    if table.elements("endpoints"):
        table.commit([DeleteElements("endpoints", table.elements("endpoints"))])


DAMAGES = [FakeTable.delete_table, _flush_every_map, _flush_every_chain, _add_nonsense, _forget_endpoints]


# --- what one change costs


def test_an_endpoint_for_another_replaces_elements_and_no_rule():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3")))
    rig.table.committed.clear()
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.4")))

    assert {type(operation) for operations in rig.table.committed for operation in operations} == {
        AddElements,
        DeleteElements,
    }
    assert rig.table.operations <= 6


def test_one_endpoint_more_replaces_one_rule():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2")))
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3")))
    rig.table.committed.clear()
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3", "10.244.0.4")))

    change, clearance = rig.table.committed
    assert [type(operation) for operation in change].count(ReplaceRule) == 1
    assert not any(isinstance(operation, AddRule | FlushChain) for operation in change)
    assert {type(operation) for operation in clearance} == {DeleteElements}


def test_an_endpoint_that_replaces_another_takes_its_turn_and_no_rule_changes():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3", "10.244.0.4")))
    rules, (before,) = rig.table.all_rules(), rig.read().ways.values()
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3", "10.244.0.5")))
    (after,) = rig.read().ways.values()

    assert rig.table.all_rules() == rules
    assert after.turns == tuple(turn.replace("10.244.0.4", "10.244.0.5") for turn in before.turns)
    assert len(rig.table.elements("ring")) == 1


def test_what_packets_under_way_look_up_stays_until_they_have_passed():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3", "10.244.0.4")))
    before = {name: set(rig.table.elements(name)) for name in ("ring", "endpoints")}
    rig.table.while_settling = lambda: [before[name] - set(rig.table.elements(name)) for name in ("ring", "endpoints")]
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3")))

    assert rig.table.seen_settling == [[set(), set()]]
    assert len(rig.table.elements("endpoints")) == len(rig.table.elements("ring")) == 2


def test_a_clearance_that_fails_leads_to_a_table_read_anew():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3", "10.244.0.4")))

    def take_an_endpoint_away() -> None:
        gone = next(each for each in rig.table.elements("endpoints") if each.value == b"\x0a\xf4\0\4\x1f\x90\0\0")
        rig.table.commit([DeleteElements("endpoints", (gone,))])

    rig.table.while_settling = take_an_endpoint_away
    with pytest.raises(LeftoversRemain):
        rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3")))
    rig.table.while_settling = lambda: None
    rig.sync(RESYNC, *rig.world.names())

    assert len(rig.table.elements("endpoints")) == len(rig.table.elements("ring")) == 2


def test_churn_does_not_favour_the_first_endpoint():
    rig = Rig()
    everyone = [f"10.244.0.{octet}" for octet in range(2, 6)]
    firsts = []
    for count in (3, 4, 3, 4, 3, 4, 3, 4):
        rig.sync(rig.world.put(*web(*everyone[:count])))
        firsts.append(rig.read().ways[WEB].turns[0])

    assert len(set(firsts)) >= 3
    assert all(one != other for one, other in itertools.pairwise(firsts))


def test_an_endpoint_keeps_its_id_while_it_lives():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3")))
    before = {target: key for key, target in rig.read().ids.items()}
    rig.sync(rig.world.put(*web("10.244.0.9", "10.244.0.3", "10.244.0.4")))
    after = {target: key for key, target in rig.read().ids.items()}

    assert after["10.244.0.3:8080"] == before["10.244.0.3:8080"]


def test_the_id_of_a_gone_endpoint_is_not_given_to_the_next():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2")))
    gone = set(rig.read().ids)
    rig.sync(rig.world.put(*web("10.244.0.3")))

    assert gone.isdisjoint(rig.read().ids)


def test_the_id_of_an_endpoint_that_left_while_the_proxy_was_down_is_not_given_to_the_next():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3")))
    before = rig.read()
    rig.world.put(*web("10.244.0.4", "10.244.0.5", "10.244.0.6"))
    rig.restart()
    rig.sync(RESYNC)
    after = rig.read()

    assert after.ids.keys().isdisjoint(before.ids)


def test_endpoints_on_other_nodes_are_no_hairpin():
    rig = Rig()
    entries = [
        endpoint("10.244.0.2", node="node1"),
        endpoint("10.244.0.3", node="node2"),
        endpoint("10.244.0.4", node=None),
    ]
    rig.sync(rig.world.put(service(), endpoint_slice("web", entries)))

    assert rig.read().hairpin == {"10.244.0.2:8080 10.244.0.2", "10.244.0.4:8080 10.244.0.4"}


# --- chains that go


def test_a_chain_is_emptied_first_and_deleted_later():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3")))
    (chain,) = (name for name in rig.read().chains if name.startswith("svc-"))
    rig.sync(rig.world.remove(named("web")))
    assert chain in rig.read().chains
    rig.sweep()

    assert chain not in rig.read().chains


def test_a_chain_that_is_wanted_again_before_it_was_deleted_stays():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3")))
    rig.sync(rig.world.put(*web("10.244.0.2")))
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3")))
    rig.sweep()

    assert len(rig.read().ways[WEB].turns) == 2


def test_affinity_chains_go_with_the_last_service_that_has_their_timeout():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2", affinity=60)))
    assert {"kept", "sticky-60", "stick-60"} <= rig.read().chains
    rig.sync(rig.world.put(*web("10.244.0.2", affinity=90)))
    rig.sweep()
    assert "sticky-60" not in rig.read().chains
    assert {"kept", "sticky-90", "stick-90"} <= rig.read().chains
    rig.sync(rig.world.remove(named("web")))
    rig.sweep()

    fixed = RULESET.rule_counts().keys() | layout.NODE_CHAINS
    assert rig.read().chains == fixed - layout.LOCALHOST_CHAINS


# --- what cannot be served


class Refusing(FakeTable):
    """Refuses, as a kernel might, every transaction that touches this cluster IP."""

    refused = "10.96.0.21"
    attempts = 0

    def commit(self, operations, *, generation=None):
        packed = ipaddress.ip_address(self.refused).packed
        self.attempts += 1
        for index, operation in enumerate(operations):
            if self._mentions(operation, packed):
                raise TransactionFailed("commit", 22, failures=(Failure(index, 22),))
        super().commit(operations, generation=generation)

    @staticmethod
    def _mentions(operation: Operation, packed: bytes) -> bool:
        return isinstance(operation, AddElements) and any(one.key[:4] == packed for one in operation.elements)


def put_many(world: World, count: int, **spec) -> list:
    return [
        world.put(service(f"s{i}", f"10.96.0.{20 + i}", **spec), endpoint_slice(f"s{i}", ["10.244.0.2", "10.244.0.3"]))
        for i in range(count)
    ]


def test_one_refused_service_does_not_hold_up_the_others():
    rig = Rig(Refusing())
    names = put_many(rig.world, 20)
    with pytest.raises(SyncFailed) as failure:
        rig.sync(*names)

    assert set(failure.value.failures) == {named("s1")}
    assert {front.cluster_ip for front in rig.read().ways} == {f"10.96.0.{20 + i}" for i in range(20)} - {"10.96.0.21"}


def test_a_refused_service_goes_in_when_the_kernel_accepts_it():
    rig = Rig(Refusing())
    names = put_many(rig.world, 3)
    with pytest.raises(SyncFailed):
        rig.sync(*names)
    rig.table.refused = "192.0.2.1"
    rig.sync(named("s1"))

    assert len(rig.read().ways) == 3


def test_the_numbers_of_a_refused_service_go_back():
    rig = Rig(Refusing())
    with pytest.raises(SyncFailed):
        rig.sync(*put_many(rig.world, 3, affinity=60))
    shares, positions = _taken(rig)

    assert (len(shares), len(positions)) == (2, 4)


def test_a_table_that_refuses_everything_is_not_tried_service_by_service():
    rig = Rig(Refusing())
    rig.table._mentions = lambda operation, packed: True
    rig.table.attempts = 0
    with pytest.raises(TransactionFailed):
        rig.sync(*put_many(rig.world, 200))

    assert rig.table.attempts < 100
    assert _taken(rig) == (set(), set())


def test_a_missing_table_is_made_again_in_the_next_round():
    rig = Rig()
    rig.sync(*put_many(rig.world, 3))
    rig.table.delete_table()
    with pytest.raises(Exception, match="commit to table"):
        rig.sync(rig.world.put(*web("10.244.0.2")))
    rig.sync(named("web"))

    assert len(rig.read().ways) == 4


def test_a_service_refused_while_the_table_is_made_again_keeps_its_numbers():
    rig = Rig(Refusing())
    rig.table.refused = "192.0.2.1"
    rig.sync(*put_many(rig.world, 3))
    before = rig.read().ids
    rig.table.delete_table()
    rig.table.refused = "10.96.0.21"
    with pytest.raises(SyncFailed):
        rig.sync(RESYNC)
    rig.table.refused = "192.0.2.1"
    rig.sync(named("s1"))

    assert rig.read().ids == before
    assert _taken(rig)[0] == _shares(map(values.mark_number, before))


def test_repairing_the_table_asks_the_api_for_nothing():
    rig = Rig()
    rig.sync(*put_many(rig.world, 3))
    rig.table.delete_table()
    rig.world.services.clear()
    rig.sync(RESYNC)

    assert len(rig.read().ways) == 3


def test_a_cluster_ip_is_served_for_one_service_only():
    rig = Rig()
    first, second = (
        rig.world.put(*web("10.244.0.2")),
        rig.world.put(service("wed"), endpoint_slice("wed", ["10.244.0.3"])),
    )
    with pytest.raises(SyncFailed, match=r"default/wed: spec.clusterIP 10.96.0.10: belongs to Service default/web"):
        rig.sync(first, second)

    assert rig.read().ways[WEB].targets == {"10.244.0.2:8080"}


def test_an_external_address_and_port_belong_to_the_service_that_came_first():
    rig = Rig()
    first = rig.world.put(service(external_ips=("203.0.113.1",)), endpoint_slice("web", ["10.244.0.2"]))
    other = service("wed", "10.96.0.11", external_ips=("203.0.113.1",))
    second = rig.world.put(other, endpoint_slice("wed", ["10.244.0.3"]))
    shared = Front("203.0.113.1", "TCP", 80)
    with pytest.raises(SyncFailed, match=r"address 203.0.113.1 with spec.ports\[\].port 80: belongs to Service"):
        rig.sync(first, second)
    assert rig.read().ways[shared].targets == {"10.244.0.2:8080"}
    rig.sync(rig.world.remove(first), second)

    assert rig.read().ways[shared].targets == {"10.244.0.3:8080"}


def test_a_cluster_ip_changes_hands_in_one_round():
    rig = Rig()
    first = rig.world.put(*web("10.244.0.2"))
    rig.sync(first)
    rig.world.remove(first)
    second = rig.world.put(service("another"), endpoint_slice("another", ["10.244.0.3"]))
    rig.sync(first, second)

    assert rig.read().ways[WEB].targets == {"10.244.0.3:8080"}


def test_a_service_that_became_unreadable_stays_as_it_was():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2")))
    rig.sync(rig.world.put(service(ports=[(70000, "http")])))

    assert rig.read().ways[WEB].targets == {"10.244.0.2:8080"}


def test_a_new_chain_stands_before_anything_leads_a_packet_under_way_into_it():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2")))
    rig.table.while_settling = lambda: (
        [
            rule.handle
            for chain in rig.table.chains()
            if chain.name.startswith("svc-")
            for rule in rig.table.rules(chain.name)
        ],
        rig.table.elements("services"),
    )
    rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3")))

    (rules, leading), *_ = rig.table.seen_settling
    assert rules
    assert leading == ()
    assert len(rig.table.elements("services")) == 1


def test_a_refused_change_leaves_its_new_chain_empty_and_to_be_swept():
    rig = Rig()
    rig.sync(rig.world.put(*web("10.244.0.2")))

    def occupy_the_frontend() -> None:
        (single,) = rig.table.elements("single-endpoint")
        if not rig.table.elements("services"):
            rig.table.commit([AddElements("services", (Element(single.key, Verdict("drop")),))])

    rig.table.while_settling = occupy_the_frontend
    with pytest.raises(SyncFailed):
        rig.sync(rig.world.put(*web("10.244.0.2", "10.244.0.3")))
    (chain,) = (chain.name for chain in rig.table.chains() if chain.name.startswith("svc-"))
    assert rig.table.rules(chain) == ()

    rig.table.while_settling = lambda: None
    rig.sync(RESYNC, *rig.world.names())
    assert Front("10.96.0.10", "TCP", 80) in rig.read().ways
    rig.sweep()
