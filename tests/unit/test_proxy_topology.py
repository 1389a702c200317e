"""Which endpoints take new connections. Nodes: here is node1."""

import pytest

from proxy.model import Endpoint, Target
from proxy.topology import Choice, Refusal, answering, choose

LEAVING = {"ready": False, "serving": True, "terminating": True}
DEAD = {"ready": False, "serving": False, "terminating": True}
STARTING = {"ready": False, "serving": False, "terminating": False}
UNREADY_BUT_SERVING = {"ready": False, "serving": True, "terminating": False}


def make(last: int, node: str | None = "node1", **conditions: bool) -> Endpoint:
    return Endpoint(target=Target(bytes((10, 244, 0, last)), 80), node=node, **conditions)


def lasts(choice: Choice) -> list[int]:
    return [endpoint.target.packed[-1] for endpoint in choice.usable]


CLUSTER = [
    ("ready ones", [make(1), make(2, "node2")], [1, 2], None),
    ("no other than ready ones", [make(1), make(2, **LEAVING), make(3, **STARTING)], [1], None),
    ("those leaving if none is ready", [make(1, **LEAVING), make(2, **STARTING), make(3, **DEAD)], [1], None),
    ("never those not ready that stay", [make(1, **UNREADY_BUT_SERVING)], [], Refusal.REJECT),
    ("nobody", [], [], Refusal.REJECT),
    ("nobody of the dead", [make(1, **DEAD), make(2, **STARTING)], [], Refusal.REJECT),
]
LOCAL = [
    ("those here", [make(1), make(2, "node2")], [1], None),
    ("those leaving here before those ready elsewhere", [make(1, **LEAVING), make(2, "node2")], [1], None),
    ("nobody here, so dropped", [make(2, "node2")], [], Refusal.DROP),
    ("nobody here, leaving elsewhere, so dropped", [make(2, "node2", **LEAVING)], [], Refusal.DROP),
    ("nobody anywhere, so refused", [make(1, **STARTING), make(2, "node2", **DEAD)], [], Refusal.REJECT),
    ("not those of whom nobody says where they are", [make(1, None)], [], Refusal.DROP),
]


@pytest.mark.parametrize(
    ("endpoints", "usable", "refusal"), [row[1:] for row in CLUSTER], ids=[row[0] for row in CLUSTER]
)
def test_the_choice_of_all(endpoints, usable, refusal):
    choice = choose(endpoints, local_only=False, node="node1")

    assert (lasts(choice), choice.refusal) == (usable, refusal)


@pytest.mark.parametrize(("endpoints", "usable", "refusal"), [row[1:] for row in LOCAL], ids=[row[0] for row in LOCAL])
def test_the_choice_of_those_here(endpoints, usable, refusal):
    choice = choose(endpoints, local_only=True, node="node1")

    assert (lasts(choice), choice.refusal) == (usable, refusal)


def test_flows_to_whoever_serves_may_go_on():
    everyone = [make(1), make(2, **LEAVING), make(3, **DEAD), make(4, **STARTING), make(5, **UNREADY_BUT_SERVING)]

    assert sorted(target.packed[-1] for target in answering(everyone)) == [1, 2, 5]
