"""Watches over nodes: one that stops renewing its Lease is not Ready, and after a longer time its pods are given up.

Only this server's clock counts: a Lease is fresh for the grace period after a renewal was seen here. A Node that never had
a Lease is left alone, for nobody has promised anything about it. When every node with a Lease is silent, it is more likely
this server that cannot be reached: then no pod is given up.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from api import lifecycle
from api.controllers import carrying_out, conditions
from api.controllers.mirror import Mirror, Notice
from api.model import Object
from api.registry import Options, Registry
from api.resources.lease import NODE_NAMESPACE
from api.resources.node import READY, UNKNOWN
from kube.control import ControlLoop
from kube.errors import NotFound
from kube.resources import LEASES, NODES, PODS

log = structlog.get_logger(__name__)

UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
REASON = "NodeStatusUnknown"
_STATUS = Options(subresource="status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a node may be silent, in seconds, before it counts as lost, and its pods with it."""

    grace: float = 40.0
    eviction: float = 300.0


class NodeLifecycle:
    """A controller; its keys are names of nodes."""

    name = "node-lifecycle"

    def __init__(
        self, registry: Registry, mirror: Mirror, patience: Patience, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._mirror = mirror
        self._patience = patience
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._lock = threading.Lock()
        self.loop: ControlLoop[str] = ControlLoop(self.name)

    def on_change(self, notice: Notice) -> None:
        namespace, name = notice.key
        if notice.resource == LEASES and namespace == NODE_NAMESPACE:
            if _renewed(notice.old) != _renewed(notice.new):
                self._hear(name)
            self.loop.mark(name)
        elif notice.resource == NODES and (notice.old is None or notice.new is None):
            self.loop.mark(name)

    def _hear(self, name: str) -> None:
        with self._lock:
            self._heard[name] = self._clock()

    def sync(self, key: str) -> None:
        self._mirror.catch_up()
        lease = self._mirror.get(LEASES, (NODE_NAMESPACE, key))
        if self._mirror.get(NODES, ("", key)) is None:
            if lease is not None:
                carrying_out.delete(self._registry, LEASES, lease)
            return
        self._update(key, lambda node: node, Options())  # a podCIDR of a family that is new to the cluster
        if lease is not None:
            self._judge(key)

    def _judge(self, name: str) -> None:
        silence = self._silence(name)
        if silence < self._patience.grace:
            self.loop.mark(name, after=self._patience.grace - silence)
            return
        now, text = lifecycle.format_time(datetime.now(UTC)), f"{self._patience.grace:g} s"
        condition = {"type": READY, "status": UNKNOWN, "reason": REASON}
        condition["message"] = f"the node has not renewed its Lease {NODE_NAMESPACE}/{name} for {text}"
        if self._update(name, lambda node: conditions.put(node, condition, now), _STATUS):
            log.warning("node is lost", node=name, silent_for=text)
        if self._is_alone():
            self.loop.mark(name, after=self._patience.grace)  # others may be heard again by then
        else:
            self._give_up_pods(name, silence - self._patience.grace)

    def _silence(self, name: str) -> float:
        with self._lock:
            return self._clock() - self._heard.setdefault(name, self._clock())

    def _is_alone(self) -> bool:
        """Whether no node at all is heard."""
        leases = (lease for lease in self._mirror.all(LEASES) if lease["metadata"]["namespace"] == NODE_NAMESPACE)
        return all(self._silence(lease["metadata"]["name"]) >= self._patience.grace for lease in leases)

    def _give_up_pods(self, name: str, lost_for: float) -> None:
        pods = [pod for pod in self._mirror.all(PODS) if pod["spec"].get("nodeName") == name]
        waits = [(pod, tolerated_seconds(pod, self._patience.eviction)) for pod in pods if not _is_going(pod)]
        given_up = [pod for pod, wait in waits if wait is not None and wait <= lost_for]
        carrying_out.for_each(given_up, lambda pod: carrying_out.delete(self._registry, PODS, pod))
        if given_up:
            log.warning("pods of a lost node are given up", node=name, pods=len(given_up))
        later = [wait - lost_for for _, wait in waits if wait is not None and wait > lost_for]
        # Another look also when nothing is due: the others may be heard again by then.
        self.loop.mark(name, after=min([self._patience.grace, *later]))

    def _update(self, name: str, change: carrying_out.Change, options: Options) -> bool:
        """Write the Node if that changes it; returns whether it did."""
        before = self._mirror.get(NODES, ("", name))
        try:
            after = self._registry.update(NODES, None, name, change, options)
        except NotFound:
            return False
        return before is not None and after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]


def is_lost(node: Object | None) -> bool:
    """Whether a node's silence is on record: nobody can say what its pods do."""
    return node is not None and conditions.status_of(node, READY) == UNKNOWN


def tolerated_seconds(pod: Object, default: float) -> float | None:
    """How long a pod stays on a node that is lost, by its tolerations; None for ever."""
    tolerations = [each for each in pod["spec"].get("tolerations", []) if _tolerates(each)]
    if not tolerations:
        return default
    limits = [each["tolerationSeconds"] for each in tolerations if "tolerationSeconds" in each]
    return float(max(0, min(limits))) if limits else None


def _tolerates(toleration: Object) -> bool:
    if toleration.get("effect") not in {None, "", UNREACHABLE["effect"]}:
        return False
    exists = toleration.get("operator") == "Exists"
    return toleration.get("key") == UNREACHABLE["key"] or (exists and not toleration.get("key"))


def _renewed(lease: Object | None) -> str | None:
    return lease["spec"].get("renewTime", "") if lease else None


def _is_going(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]
