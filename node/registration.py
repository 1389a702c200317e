"""This node's entry in the API: what to create when it is absent, what to patch when it says something else.

Pure. Where a kubelet runs, the Node and its Ready condition are the kubelet's, recognised by the condition's reason; then
only NetworkUnavailable is ours, as with every network plugin. Where none runs, the agent says all of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from dataplane.netlink.objects import Address
from kube.objects import Condition, Node, ObjectMeta

PROGRAM = "podwire"
REASON_READY = "PodwireReady"
REASON_NOT_READY = "PodwireNotReady"
_OURS = (REASON_READY, REASON_NOT_READY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this node is: the name it registers under and what `kubectl get nodes -o wide` shows of its machine."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether pods can be wired here, and why, in words."""

    ready: bool
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What this node says of itself now. Readiness is None while it is not known: then what was said before stands."""

    addresses: tuple[Address, ...]  # at most one of each family, the one towards the API server first
    readiness: Readiness | None


def new_node(identity: Identity, claim: Claim, now: datetime) -> dict[str, Any]:
    """The Node to create. It comes with its status, as a kubelet's does, so nobody sees a node without an address."""
    labels = {"kubernetes.io/hostname": identity.name} | dict(identity.labels)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": identity.name, "labels": labels}, "spec": {}}
    nothing_said = Node(metadata=ObjectMeta(name=identity.name))
    said = status_patch(nothing_said, identity, claim, now) or {"status": {}}
    return node | {"status": said["status"] | {"addresses": _claimed_addresses(identity, claim)}}


def status_patch(node: Node, identity: Identity, claim: Claim, now: datetime) -> dict[str, Any] | None:
    """The strategic merge patch that makes the Node's status say the claim; None when it does."""
    status: dict[str, Any] = {}
    conditions = _conditions(node, claim.readiness) if claim.readiness else []
    changed = [_written(each, node, now) for each in conditions if _differs(each, _held(node, each.type))]
    if changed:
        status["conditions"] = changed
    wanted = _claimed_addresses(identity, claim)
    if is_ours(node) and _addresses(node) != wanted:
        # Addresses merge by their type, and both families' are InternalIPs: the list is replaced whole.
        status["addresses"] = [{"$patch": "replace"}, *wanted]
    if not status:
        return None
    if is_ours(node) and identity.machine:
        status["nodeInfo"] = dict(identity.machine)
    return {"status": status}


def is_ours(node: Node) -> bool:
    """Whether no kubelet has its word in: of a node that was lost, the server wrote the condition in its agent's place."""
    ready = _held(node, "Ready")
    if ready is not None and ready.status == "Unknown":
        return node.status.node_info.kubelet_version.startswith(PROGRAM)
    return ready is None or ready.reason in _OURS


def _conditions(node: Node, readiness: Readiness) -> list[Condition]:
    conditions = [
        Condition(
            type="NetworkUnavailable",
            status=_status(not readiness.ready),
            reason="PodwireIsUp" if readiness.ready else "PodwireIsStarting",
            message=readiness.message,
        )
    ]
    if is_ours(node):
        reason = REASON_READY if readiness.ready else REASON_NOT_READY
        ready = Condition(type="Ready", status=_status(readiness.ready), reason=reason, message=readiness.message)
        conditions.append(ready)
    return conditions


def _status(true: bool) -> Literal["True", "False"]:  # noqa: FBT001
    return "True" if true else "False"


def _held(node: Node, kind: str) -> Condition | None:
    return next((condition for condition in node.status.conditions if condition.type == kind), None)


def _differs(wanted: Condition, held: Condition | None) -> bool:
    return held is None or (wanted.status, wanted.reason, wanted.message) != (held.status, held.reason, held.message)


def _written(condition: Condition, node: Node, now: datetime) -> dict[str, str]:
    held = _held(node, condition.type)
    unchanged = held is not None and held.status == condition.status
    since = held.last_transition_time if held is not None and unchanged else None
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastHeartbeatTime": _time(now),
        "lastTransitionTime": _time(since or now),
    }


def _time(moment: datetime) -> str:
    """metav1.Time: seconds, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _addresses(node: Node) -> list[dict[str, str]]:
    return [{"type": address.type, "address": address.address} for address in node.status.addresses]


def _claimed_addresses(identity: Identity, claim: Claim) -> list[dict[str, str]]:
    internal = [{"type": "InternalIP", "address": str(address)} for address in claim.addresses]
    return [{"type": "Hostname", "address": identity.name}, *internal]
