"""What the agent says of its node, and when it keeps quiet.

Address plan: this node is one, 192.0.2.1.
"""

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from kube.objects import Condition, Node, NodeAddress, NodeStatus, NodeSystemInfo, ObjectMeta
from node import registration
from node.registration import Claim, Identity, Readiness

NOW = datetime(2026, 11, 1, 12, 0, 0, 999, tzinfo=UTC)
EARLIER = datetime(2026, 10, 1, tzinfo=UTC)
ONE = Identity(name="one", labels={"kubernetes.io/os": "linux"}, machine={"kernelVersion": "6.1"})
READY = Claim(
    addresses=(ip_address("192.0.2.1"),), readiness=Readiness(ready=True, message="pods get addresses of 10.244.1.0/24")
)
WAITING = Claim(addresses=(ip_address("192.0.2.1"),), readiness=Readiness(ready=False, message="waiting for a podCIDR"))
UNKNOWN = Claim(addresses=(ip_address("192.0.2.1"),), readiness=None)


def created(claim: Claim = WAITING) -> Node:
    """The Node as the API gives it back after it was created."""
    return msgspec.convert(registration.new_node(ONE, claim, EARLIER), Node)


def patched(node: Node, claim: Claim, identity: Identity = ONE) -> dict[str, Any]:
    return registration.status_patch(node, identity, claim, NOW)["status"]


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in status["conditions"]}


def kubelets_node() -> Node:
    ready = Condition(type="Ready", status="True", reason="KubeletReady", message="kubelet is posting ready status")
    address = NodeAddress(type="InternalIP", address="198.51.100.1")
    return Node(metadata=ObjectMeta(name="one"), status=NodeStatus(addresses=(address,), conditions=(ready,)))


def test_a_new_node_comes_with_its_labels_and_address() -> None:
    node = registration.new_node(ONE, WAITING, NOW)
    assert node["metadata"] == {
        "name": "one",
        "labels": {"kubernetes.io/hostname": "one", "kubernetes.io/os": "linux"},
    }
    assert node["status"]["addresses"] == [
        {"type": "Hostname", "address": "one"},
        {"type": "InternalIP", "address": "192.0.2.1"},
    ]


def test_a_new_node_is_not_ready() -> None:
    assert conditions(registration.new_node(ONE, WAITING, NOW)["status"]) == {
        "Ready": "False",
        "NetworkUnavailable": "True",
    }


def test_a_node_that_says_the_claim_is_left_alone() -> None:
    assert registration.status_patch(created(READY), ONE, READY, NOW) is None


def test_readiness_turns_both_conditions() -> None:
    assert conditions(patched(created(), READY)) == {"Ready": "True", "NetworkUnavailable": "False"}


def test_what_is_not_known_is_not_said() -> None:
    assert registration.status_patch(created(READY), ONE, UNKNOWN, NOW) is None


def test_the_transition_time_moves_with_the_status() -> None:
    assert {each["lastTransitionTime"] for each in patched(created(), READY)["conditions"]} == {"2026-11-01T12:00:00Z"}


def test_the_transition_time_stays_when_only_the_message_changes() -> None:
    other = Claim(addresses=READY.addresses, readiness=Readiness(ready=False, message="the disk is full"))
    assert {each["lastTransitionTime"] for each in patched(created(), other)["conditions"]} == {"2026-10-01T00:00:00Z"}


def test_only_a_condition_that_differs_is_patched() -> None:
    said = created(READY)
    spoiled = msgspec.structs.replace(
        said, status=NodeStatus(addresses=said.status.addresses, conditions=said.status.conditions[:1])
    )
    assert list(conditions(patched(spoiled, READY))) == ["Ready"]


def test_a_new_address_replaces_the_old_one() -> None:
    moved = Claim(addresses=(ip_address("192.0.2.9"),), readiness=READY.readiness)
    assert {"type": "InternalIP", "address": "192.0.2.9"} in patched(created(READY), moved)["addresses"]


@pytest.mark.parametrize("claim", [READY, WAITING, UNKNOWN])
def test_beside_a_kubelet_neither_address_nor_ready_is_ours(claim: Claim) -> None:
    patch = registration.status_patch(kubelets_node(), ONE, claim, NOW) or {"status": {"conditions": []}}
    assert list(patch["status"]) == ["conditions"]
    assert "Ready" not in conditions(patch["status"])


def test_beside_a_kubelet_the_network_condition_is_ours() -> None:
    assert conditions(patched(kubelets_node(), READY)) == {"NetworkUnavailable": "False"}


def test_a_lost_node_that_returns_says_ready_again() -> None:
    lost = Condition(type="Ready", status="Unknown", reason="NodeStatusUnknown")
    said = created(READY)
    status = msgspec.structs.replace(
        said.status, conditions=(lost,), node_info=NodeSystemInfo(kubelet_version="podwire 0.1.0")
    )
    assert conditions(patched(msgspec.structs.replace(said, status=status), READY))["Ready"] == "True"


def test_both_addresses_are_said_in_their_order_and_replace_the_list() -> None:
    both = Claim(addresses=(ip_address("192.0.2.1"), ip_address("fd00:192:2::1")), readiness=READY.readiness)
    directive, *listed = patched(created(READY), both)["addresses"]
    assert directive == {"$patch": "replace"}
    assert [each["address"] for each in listed] == ["one", "192.0.2.1", "fd00:192:2::1"]


def test_a_node_that_says_both_addresses_is_left_alone() -> None:
    both = Claim(addresses=(ip_address("192.0.2.1"), ip_address("fd00:192:2::1")), readiness=READY.readiness)
    assert registration.status_patch(created(both), ONE, both, NOW) is None
