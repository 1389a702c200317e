"""The agent's Lease: when it is renewed, made, and left to a kubelet."""

from typing import Any

import pytest

from kube.errors import AlreadyExists, NotFound
from kube.objects import Condition, Node, NodeStatus, NodeSystemInfo, ObjectMeta
from node.heartbeat import Heartbeat


def node(*, status: str = "True", reason: str = "PodwireReady", version: str = "podwire 0.1.0") -> Node:
    ready = Condition(type="Ready", status=status, reason=reason)
    said = NodeStatus(conditions=(ready,), node_info=NodeSystemInfo(kubelet_version=version))
    return Node(metadata=ObjectMeta(name="n1", uid="u1"), status=said)


class Leases:
    """One namespace's, as a client sees them."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Any]] = {}
        self.is_raced = False

    def patch(self, _resource: object, name: str, patch: dict[str, Any], namespace: str) -> None:
        assert namespace == "kube-node-lease"
        if name not in self.held:
            raise NotFound(name)
        self.held[name] |= patch["spec"]

    def create(self, _resource: object, body: dict[str, Any], namespace: str) -> None:
        assert namespace == "kube-node-lease"
        if self.is_raced:
            raise AlreadyExists("n1")
        self.owners = body["metadata"]["ownerReferences"]
        self.held[body["metadata"]["name"]] = dict(body["spec"])


@pytest.fixture
def leases() -> Leases:
    return Leases()


def test_the_first_beat_makes_the_lease_and_names_its_node(leases: Leases) -> None:
    Heartbeat(leases, node).sync("n1")
    assert (leases.held["n1"]["holderIdentity"], leases.owners[0]["uid"]) == ("n1", "u1")


def test_every_beat_is_another_time(leases: Leases) -> None:
    heartbeat = Heartbeat(leases, node)
    times = set()
    for _ in range(3):
        heartbeat.sync("n1")
        times.add(leases.held["n1"]["renewTime"])
    assert len(times) == 3


def test_a_lease_made_by_another_agent_at_the_same_moment_is_no_failure(leases: Leases) -> None:
    leases.is_raced = True
    Heartbeat(leases, node).sync("n1")


def test_an_unregistered_node_promises_nothing(leases: Leases) -> None:
    Heartbeat(leases, lambda: None).sync("n1")
    assert leases.held == {}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, True),
        ({"status": "Unknown", "reason": "NodeStatusUnknown"}, True),
        ({"reason": "KubeletReady", "version": "v1.36.0"}, False),
        ({"status": "Unknown", "reason": "NodeStatusUnknown", "version": "v1.36.0"}, False),
    ],
)
def test_beside_a_kubelet_the_lease_is_the_kubelets(leases: Leases, said, expected) -> None:
    Heartbeat(leases, lambda: node(**said)).sync("n1")
    assert ("n1" in leases.held) == expected
