"""Which node a pod goes to: pure. The node with the fewest pods among those that take it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from api.controllers.index import Key, key_of
from api.model import Object
from api.resources.node import is_ready
from api.resources.pod import is_finished

SCHEDULER = "default-scheduler"
_REPELLING = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What is decided about pods that wait: their node, or why there is none."""

    nodes: Mapping[Key, str]
    refusals: Mapping[Key, str]


def plan(pods: Iterable[Object], nodes: Iterable[Object]) -> Placement:
    """Decide about every waiting pod, the oldest first. Bound pods only count against their node."""
    pods, nodes = list(pods), sorted(nodes, key=key_of)
    load = Counter(pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName") and not is_finished(pod))
    chosen: dict[Key, str] = {}
    refusals: dict[Key, str] = {}
    for pod in sorted(filter(is_waiting, pods), key=_age):
        reasons = {node["metadata"]["name"]: objection(pod, node) for node in nodes}
        willing = [name for name, reason in reasons.items() if not reason]
        if willing:
            node = min(willing, key=lambda name: (load[name], name))
            load[node] += 1
            chosen[key_of(pod)] = node
        else:
            refusals[key_of(pod)] = _refusal(reasons.values())
    return Placement(nodes=chosen, refusals=refusals)


def is_waiting(pod: Object) -> bool:
    spec = pod["spec"]
    if spec.get("nodeName") or "deletionTimestamp" in pod["metadata"] or is_finished(pod):
        return False
    return bool(spec.get("schedulerName", SCHEDULER) == SCHEDULER)


def objection(pod: Object, node: Object) -> str:
    """Why this node does not take the pod, in the words of kube-scheduler; "" when it does."""
    spec = node.get("spec", {})
    if not is_ready(node):
        return "node(s) were not ready"
    if spec.get("unschedulable"):
        return "node(s) were unschedulable"
    if not pod["spec"].get("nodeSelector", {}).items() <= node["metadata"].get("labels", {}).items():
        return "node(s) didn't match Pod's node affinity/selector"
    for taint in spec.get("taints", []):
        if taint.get("effect") in _REPELLING and not _is_tolerated(taint, pod["spec"].get("tolerations", [])):
            return f"node(s) had untolerated taint {{{taint.get('key', '')}: {taint.get('value', '')}}}"
    return ""


def _is_tolerated(taint: Object, tolerations: Iterable[Object]) -> bool:
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in {None, "", taint.get("effect")}:
        return False
    if toleration.get("key") not in {None, "", taint.get("key")}:
        return False
    exists = toleration.get("operator") == "Exists"
    return exists or (bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", ""))


def _refusal(reasons: Iterable[str]) -> str:
    counts = Counter(reasons)
    if not counts:
        return "no nodes available to schedule pods"
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return f"0/{counts.total()} nodes are available: {listed}."


def _age(pod: Object) -> tuple[str, Key]:
    return pod["metadata"].get("creationTimestamp", ""), key_of(pod)
