"""Which endpoints take new connections. Nodes: here is node1."""

import pytest

from proxy.model import Endpoint, Target
from proxy.topology import answering, choose

LEAVING = {"ready": False, "serving": True, "terminating": True}
DEAD = {"ready": False, "serving": False, "terminating": True}
STARTING = {"ready": False, "serving": False, "terminating": False}
UNREADY_BUT_SERVING = {"ready": False, "serving": True, "terminating": False}


def make(last: int, node: str | None = "node1", **conditions: bool) -> Endpoint:
    return Endpoint(target=Target(bytes((10, 244, 0, last)), 80), node=node, **conditions)


def lasts(endpoints: tuple[Endpoint, ...]) -> list[int]:
    return [endpoint.target.packed[-1] for endpoint in endpoints]


CLUSTER = [
    ("ready ones", [make(1), make(2, "node2")], [1, 2], True),
    ("no other than ready ones", [make(1), make(2, **LEAVING), make(3, **STARTING)], [1], True),
    ("those leaving if none is ready", [make(1, **LEAVING), make(2, **STARTING), make(3, **DEAD)], [1], True),
    ("never those not ready that stay", [make(1, **UNREADY_BUT_SERVING)], [], False),
    ("nobody", [], [], False),
    ("nobody of the dead", [make(1, **DEAD), make(2, **STARTING)], [], False),
]
LOCAL = [
    ("those here", [make(1), make(2, "node2")], [1], True),
    ("those leaving here before those ready elsewhere", [make(1, **LEAVING), make(2, "node2")], [1], True),
    ("nobody here, so dropped", [make(2, "node2")], [], True),
    ("nobody here, leaving elsewhere, so dropped", [make(2, "node2", **LEAVING)], [], True),
    ("nobody anywhere, so refused", [make(1, **STARTING), make(2, "node2", **DEAD)], [], False),
    ("not those of whom nobody says where they are", [make(1, None)], [], True),
]


@pytest.mark.parametrize(
    ("endpoints", "usable", "is_served"), [row[1:] for row in CLUSTER], ids=[row[0] for row in CLUSTER]
)
def test_the_choice_of_all(endpoints, usable, is_served):
    choice = choose(endpoints, node="node1")

    assert (lasts(choice.cluster), choice.is_served) == (usable, is_served)


@pytest.mark.parametrize(
    ("endpoints", "usable", "is_served"), [row[1:] for row in LOCAL], ids=[row[0] for row in LOCAL]
)
def test_the_choice_of_those_here(endpoints, usable, is_served):
    choice = choose(endpoints, node="node1")

    assert (lasts(choice.local), choice.is_served) == (usable, is_served)


def zoned(last: int, zone: str, node: str = "", **conditions: bool) -> Endpoint:
    hints = {"zone_hints": (zone,) if zone else (), "node_hints": (node,) if node else ()}
    return make(last, "node9", **hints, **conditions)


HINTS = [
    ("the same zone", [zoned(1, "a"), zoned(2, "b")], "a", [1]),
    ("all if one has no hint", [zoned(1, "a"), zoned(2, "")], "a", [1, 2]),
    ("all if none is for this zone", [zoned(1, "b"), zoned(2, "c")], "a", [1, 2]),
    ("all if this node's zone is not known", [zoned(1, "a"), zoned(2, "b")], "", [1, 2]),
    ("the same node before the same zone", [zoned(1, "a", "node2"), zoned(2, "a", "node1")], "a", [2]),
    ("the same zone if no node hint is for here", [zoned(1, "a", "node2"), zoned(2, "b", "node3")], "a", [1]),
    ("the same zone if one has no node hint", [zoned(1, "a", "node1"), zoned(2, "a")], "a", [1, 2]),
    ("hints of those not ready do not count", [zoned(1, "a"), zoned(2, "", **STARTING)], "a", [1]),
    ("those leaving whatever their hints", [zoned(1, "b", **LEAVING), zoned(2, "a", **LEAVING)], "a", [1, 2]),
]


@pytest.mark.parametrize(("endpoints", "zone", "usable"), [row[1:] for row in HINTS], ids=[row[0] for row in HINTS])
def test_hints_narrow_the_choice_of_all(endpoints, zone, usable):
    assert lasts(choose(endpoints, node="node1", zone=zone).cluster) == usable


def test_hints_do_not_narrow_the_choice_of_those_here():
    there = make(1, "node1", zone_hints=("b",)), make(2, "node1", zone_hints=("a",))

    assert lasts(choose(there, node="node1", zone="a").local) == [1, 2]


def test_flows_to_whoever_serves_may_go_on():
    everyone = [make(1), make(2, **LEAVING), make(3, **DEAD), make(4, **STARTING), make(5, **UNREADY_BUT_SERVING)]

    assert sorted(target.packed[-1] for target in answering(everyone)) == [1, 2, 5]
