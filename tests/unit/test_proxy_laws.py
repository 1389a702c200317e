"""Laws of the whole proxy, from events to what the table means: the order of events, where the table starts from and what
was undone again make no difference. Ids and ring positions are history, and so is whose turn is first.

Worlds have every way in, policies, hints and weights. Cluster IPs 10.96.0.10 to 12, endpoints 10.244.0.2 to 7.
"""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.nft import expressions, values
from dataplane.nft.objects import (
    AddChain,
    AddElements,
    AddRule,
    Chain,
    DeleteElements,
    Element,
    FlushChain,
    Operation,
    Rule,
)
from dataplane.nft.values import Verdict
from kube import objects
from kube.cache import Cache
from kube.events import Key, Put, Remove
from kube.resources import ENDPOINT_SLICES, SERVICES
from proxy import layout, restart
from proxy import state as states
from proxy.inputs import Inputs
from proxy.sync import RESYNC
from proxy.tracing import drift
from tests.services import RULESET, FakeTable, endpoint_slice, service
from tests.unit.test_proxy_sync import Rig

LAW = settings(max_examples=40)
INDEXES = range(3)

# --- worlds


def made_service(index: int, **spec) -> objects.Service:
    is_external = spec.pop("is_external")
    ways = {
        "type": "LoadBalancer",
        "external_ips": (f"203.0.113.{index}",),
        "ingress": [f"203.0.113.{100 + index}"],
        "load_balancer_source_ranges": spec.pop("ranges"),
    }
    spec.pop("ranges", None)
    node_port = 30080 + index if is_external else 0
    ports = [(80, "http", "TCP", node_port), (53, "dns", "UDP")]
    return service(f"svc{index}", f"10.96.0.{10 + index}", ports=ports, **(ways if is_external else {}), **spec)


def services(index: int) -> st.SearchStrategy[objects.Service]:
    policy = st.sampled_from(["Cluster", "Local"])
    return st.fixed_dictionaries(
        {
            "is_external": st.booleans(),
            "ranges": st.sampled_from([(), ("198.51.100.0/24", "192.0.2.0/24")]),
            "affinity": st.sampled_from([None, 60, 90]),
            "internal_traffic_policy": policy,
            "external_traffic_policy": policy,
        }
    ).map(lambda spec: made_service(index, **spec))


CONDITIONS = st.sampled_from(
    [
        {},
        {"ready": True, "serving": True, "terminating": False},
        {"ready": False, "serving": True, "terminating": True},
        {"ready": False, "serving": False},
    ]
)
ENDPOINT = st.builds(
    lambda octet, node, said, zone: objects.Endpoint(
        addresses=(f"10.244.0.{octet}",),
        node_name=node,
        conditions=objects.EndpointConditions(**said),
        hints=objects.EndpointHints(for_zones=(objects.ForName(name=zone),)) if zone else None,
    ),
    st.integers(2, 7),
    st.sampled_from(["node1", "node2", None]),
    CONDITIONS,
    st.sampled_from(["", "", "zone1"]),
)


def slices(name: str) -> st.SearchStrategy[objects.EndpointSlice]:
    """A slice of any of the Services; it changes hands when it comes again with another owner."""
    return st.builds(
        lambda owner, endpoints, weights: endpoint_slice(
            f"svc{owner}", endpoints, name=name, ports=[(8080, "http"), (5353, "dns", "UDP")], weights=weights
        ),
        st.sampled_from(INDEXES),
        st.lists(ENDPOINT, max_size=4, unique_by=lambda each: each.addresses),
        st.sampled_from([None, None, {"10.244.0.2": 3}, {"10.244.0.3": 0}]),
    )


SERVICE_KEYS = [Key("default", f"svc{index}") for index in INDEXES]
SLICE_KEYS = [Key("default", f"slice{index}") for index in range(4)]
# What the API holds, by name; None is absent.
WORLD = st.fixed_dictionaries(
    {key: st.none() | services(index) for index, key in enumerate(SERVICE_KEYS)}
    | {key: st.none() | slices(key.name) for key in SLICE_KEYS}
)
World = dict


class Api:
    """The caches as a watch fills them, a table, and the proxy between; `sync` does what is marked."""

    def __init__(self, table: FakeTable | None = None) -> None:
        self.caches = {SERVICES: Cache(), ENDPOINT_SLICES: Cache()}
        self.marks: set = set()
        inputs = Inputs(self.caches[SERVICES], self.caches[ENDPOINT_SLICES], self.marks.add)
        self.rig = Rig(table=table, world=inputs)

    @property
    def table(self) -> FakeTable:
        return self.rig.table

    def tell(self, key: Key, obj: object) -> None:
        cache = self.caches[SERVICES if key in SERVICE_KEYS else ENDPOINT_SLICES]
        cache.apply(Remove(key) if obj is None else Put(obj))

    def sync(self) -> None:
        names = frozenset(self.marks)
        self.marks.clear()
        self.rig.sync(*names)

    def become(self, world: World) -> None:
        for key, obj in world.items():
            self.tell(key, obj)
        self.sync()

    def restart(self) -> None:
        self.rig.restart()
        self.rig.sync(RESYNC)
        self.rig.sweep()


def meaning(table: FakeTable) -> dict[str, str]:
    return drift.meanings(restart.read(table, RULESET).state)


def reached(world: World) -> dict[str, str]:
    """What the table means if nothing else has ever been."""
    api = Api()
    api.become(world)
    return meaning(api.table)


# --- the order of events


@LAW
@given(WORLD, WORLD, st.data())
def test_the_order_of_events_makes_no_difference(before, after, data):
    events = [(key, obj) for world in (before, after) for key, obj in world.items()]
    # Of one object the last event counts, so only events of different objects may change places.
    shuffled = _shuffled(events, data)
    api = Api()
    for event in shuffled:
        api.tell(*event)
        if data.draw(st.booleans(), label="a round here"):
            api.sync()
    api.sync()

    assert meaning(api.table) == reached(after)


def _shuffled(events: list, data: st.DataObject) -> list:
    queues: dict = {}
    for event in events:
        queues.setdefault(event[0], []).append(event)
    order = data.draw(st.permutations([event[0] for event in events]), label="whose event is next")
    return [queues[key].pop(0) for key in order]


# --- where the table starts from


def garbage(data: st.DataObject, table: FakeTable) -> Iterable[Operation]:
    """Elements and rules as somebody's mistake, or an unfinished program, may leave them in our table."""
    mark = values.mark(data.draw(st.sampled_from([1, 0x4000_0001, 0x7000_0001, 0xFFFF_FFFF])))
    front = values.concat(data.draw(st.binary(min_size=4, max_size=4)), values.proto(6), values.port(80))
    target = values.concat(bytes((10, 244, 0, 250)), values.port(1))
    chain = data.draw(st.sampled_from([None, *(chain.name for chain in table.chains())]))
    possible = [
        [AddElements(layout.RING, (Element(mark, mark),))],
        [AddElements(layout.ENDPOINTS, (Element(mark, target),))],
        [AddElements(layout.SINGLE_ENDPOINT, (Element(front, mark),))],
        [AddElements(layout.SERVICES, (Element(front, Verdict("drop")),))],
        [AddElements(layout.NO_ENDPOINTS, (Element(front),))],
        [AddElements(layout.CLUSTER_IPS, (Element(front[:4], comment="stray"),))],
        [AddChain(Chain("svc-stray")), AddRule(Rule("svc-stray", expressions.verdict("drop")))],
        [AddRule(Rule(chain, expressions.verdict("accept")))] if chain else [],
        [FlushChain(chain)] if chain else [],
    ]
    return data.draw(st.sampled_from(possible))


def _partly(old: states.State, new: states.State, data: st.DataObject) -> list[Operation]:
    """A change that ended half way, as several transactions can."""
    operations = list(states.diff(old, new, {}) if not states.chains_to_edit(old, new) else ())
    return operations[: data.draw(st.integers(0, len(operations)), label="how far it came")]


def attempt(table: FakeTable, operations: Iterable[Operation]) -> None:
    for operation in operations:
        try:
            table.commit([operation])
        except Exception:  # noqa: BLE001 - what the table refuses would not stand in it
            continue


@LAW
@given(WORLD, WORLD, WORLD, st.data())
def test_from_any_table_a_restart_reaches_what_the_api_says(before, halfway, after, data):
    api = Api()
    api.become(before)
    other = Api()
    other.become(halfway)
    found, aim = (restart.read(each.table, RULESET).state for each in (api, other))
    attempt(api.table, _partly(found, aim, data))
    for _ in range(data.draw(st.integers(0, 4), label="pieces of garbage")):
        attempt(api.table, garbage(data, api.table))
    for key, obj in after.items():
        api.tell(key, obj)
    api.marks.clear()
    api.restart()

    assert meaning(api.table) == reached(after)


@LAW
@given(WORLD, st.data())
def test_any_elements_that_are_lost_are_restored(world, data):
    api = Api()
    api.become(world)
    wanted = meaning(api.table)
    for name in layout.WRITTEN:
        lost = tuple(element for element in api.table.elements(name) if data.draw(st.booleans()))
        attempt(api.table, [DeleteElements(name, lost)] if lost else [])
    api.rig.sync(RESYNC)

    assert meaning(api.table) == wanted


# --- what is undone again


@LAW
@given(WORLD, WORLD)
def test_a_change_that_is_reverted_before_a_round_writes_nothing(world, other):
    api = Api()
    api.become(world)
    written = api.table.operations
    for each in (other, world):
        for key, obj in each.items():
            api.tell(key, obj)
    api.sync()

    assert api.table.operations == written


@LAW
@given(WORLD, WORLD)
def test_a_change_and_its_revert_leave_no_difference(world, other):
    api = Api()
    api.become(world)
    before = restart.read(api.table, RULESET).state
    api.become(other)
    api.become(world)
    api.rig.sweep()
    after = restart.read(api.table, RULESET).state

    assert drift.of_services(before, after) == ()
    assert {name: content.comment for name, content in before.chains.items()} == {
        name: content.comment for name, content in after.chains.items()
    }


@LAW
@given(WORLD)
def test_the_same_state_has_no_difference(world):
    api = Api()
    api.become(world)
    found = restart.read(api.table, RULESET).state

    assert states.diff(found, found, {}) == ()


# --- the laws can fail


def test_what_a_table_means_tells_worlds_apart():
    """Each of these is a difference the laws would see."""
    plain = {"is_external": True, "ranges": (), "affinity": None}
    policies = {"internal_traffic_policy": "Cluster", "external_traffic_policy": "Cluster"}
    worlds = [
        {SERVICE_KEYS[0]: made_service(0, **{**plain, **policies, **change}), SLICE_KEYS[0]: endpoints}
        for change, endpoints in (
            ({}, endpoint_slice("svc0", ["10.244.0.2"], name="slice0")),
            ({}, endpoint_slice("svc0", ["10.244.0.3"], name="slice0")),
            ({}, endpoint_slice("svc0", ["10.244.0.2", "10.244.0.3"], name="slice0")),
            ({}, endpoint_slice("svc0", ["10.244.0.2", "10.244.0.3"], name="slice0", weights={"10.244.0.2": 2})),
            ({"affinity": 60}, endpoint_slice("svc0", ["10.244.0.2"], name="slice0")),
            ({"affinity": 90}, endpoint_slice("svc0", ["10.244.0.2"], name="slice0")),
            ({"external_traffic_policy": "Local"}, endpoint_slice("svc0", ["10.244.0.2"], name="slice0")),
            ({"ranges": ("192.0.2.0/24",)}, endpoint_slice("svc0", ["10.244.0.2"], name="slice0")),
            ({"is_external": False}, endpoint_slice("svc0", ["10.244.0.2"], name="slice0")),
        )
    ]
    meanings = [str(sorted(reached(world).items())) for world in worlds]

    assert len(set(meanings)) == len(meanings)


@pytest.mark.parametrize(
    "damage",
    [
        AddElements(layout.RING, (Element(values.mark(9), values.mark(9)),)),
        AddElements(layout.ENDPOINTS, (Element(values.mark(0x7FFF_FFFF), values.concat(bytes(4), values.port(1))),)),
        AddElements(layout.CLUSTER_IPS, (Element(bytes(4)),)),
    ],
    ids=["a ring position", "an endpoint", "a cluster IP"],
)
def test_damage_is_seen_and_undone(damage):
    api = Api()
    api.become({SERVICE_KEYS[0]: service("svc0"), SLICE_KEYS[0]: endpoint_slice("svc0", ["10.244.0.2"], name="slice0")})
    before = {name: set(api.table.elements(name)) for name in layout.WRITTEN}
    api.table.commit([damage])
    assert before != {name: set(api.table.elements(name)) for name in layout.WRITTEN}
    api.rig.sync(RESYNC)

    assert before == {name: set(api.table.elements(name)) for name in layout.WRITTEN}
