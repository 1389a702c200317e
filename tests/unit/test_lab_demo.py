"""The demo's manifests, and what counts as a promise kept."""

from pathlib import Path

import msgspec
import pytest

from lab.demo import scene
from lab.demo.findings import Answer, Pings, Pinned, Turns, Withdrawal, is_strict_turn
from lab.plan import Lab

THREE = frozenset({"web-1", "web-2", "web-3"})


def answers(text):
    return tuple(Answer(pod=f"web-{digit}") if digit != "x" else Answer(failure="timed out") for digit in text)


@pytest.mark.parametrize(
    ("sequence", "kept"),
    [
        ("123123123123", True),
        ("312312312312", True),
        ("132132132132", True),
        ("123123123132", False),
        ("121212121212", False),
        ("111111111111", False),
        ("123123x23123", False),
        ("123", True),
        ("12", False),
        ("", False),
    ],
)
def test_a_strict_turn_is_every_endpoint_once_a_round_in_one_order(sequence, kept):
    assert is_strict_turn([answer.pod for answer in answers(sequence)], THREE) == kept


def test_turns_know_their_endpoints():
    row = Turns(client="client-1", node="node1", protocol="TCP", answers=answers("123123"), endpoints=THREE)

    assert row.is_as_promised


@pytest.mark.parametrize(("sequence", "kept"), [("222222", True), ("222322", False), ("22x222", False)])
def test_a_pinned_client_stays_and_is_always_answered(sequence, kept):
    assert Pinned(client="client-1", node="node1", answers=answers(sequence)).is_as_promised == kept


def withdrawal(**changes):
    plain = {"pod": "web-3", "returned": 0.2, "last_answer": 0.3, "requests": 100, "failed": 0}
    left = frozenset({"web-1", "web-2"})
    return Withdrawal(**({**plain, "left": left, "endpoints": left} | changes))


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"last_answer": 0.1}, True),
        ({"last_answer": 1.3}, False),
        ({"failed": 1}, False),
        ({"left": frozenset({"web-1"})}, False),
    ],
    ids=["soon", "before kubectl returned", "too late", "a request failed", "one of the others is missing"],
)
def test_a_withdrawal_is_quick_and_nobody_notices(changes, kept):
    assert withdrawal(**changes).is_as_promised == kept


def test_one_unanswered_ping_breaks_the_row():
    assert Pings(source="web-1", round_trips=(("web-2", 0.1), ("node1", 0.2))).is_as_promised
    assert not Pings(source="web-1", round_trips=(("web-2", 0.1), ("node1", None))).is_as_promised


def test_the_manifest_has_two_pods_for_each_node():
    lab = Lab(name="blue", directory=Path("/x/blue"), node_count=4, api_port=6443)

    documents = [msgspec.yaml.decode(each) for each in scene.manifest(lab).split("---\n")]
    pods = [each for each in documents if each["kind"] == "Pod"]

    assert [each["kind"] for each in documents[:3]] == ["Namespace", "Service", "Service"]
    assert sorted(each["spec"]["nodeName"] for each in pods) == sorted(["node1", "node2", "node3", "node4"] * 2)
    assert len({each["metadata"]["name"] for each in pods}) == 8
