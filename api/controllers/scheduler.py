"""Binds waiting pods to nodes, and tells a pod that fits nowhere why."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from api import lifecycle
from api.controllers import carrying_out, conditions, placement
from api.controllers.index import Key, key_of
from api.controllers.mirror import Mirror, Notice
from api.controllers.placement import Placement
from api.model import Object
from api.registry import Options, Registry
from kube.control import ControlLoop
from kube.errors import NotFound
from kube.resources import NODES, PODS

log = structlog.get_logger(__name__)

_SPEC, _STATUS = Options(), Options(subresource="status")
_SCHEDULED = "PodScheduled"


class Scheduler:
    """A controller with one key: waiting pods are placed together, for each counts against its node."""

    name = "scheduler"

    def __init__(self, registry: Registry, mirror: Mirror) -> None:
        self._registry = registry
        self._mirror = mirror
        self.loop: ControlLoop[str] = ControlLoop(self.name)

    def on_change(self, notice: Notice) -> None:
        if notice.resource == NODES or (notice.resource == PODS and notice.new and placement.is_waiting(notice.new)):
            self.loop.mark("pods")

    def sync(self, key: str) -> None:
        del key
        self._mirror.catch_up()
        pods = self._mirror.all(PODS)
        waiting = {key_of(pod): pod for pod in pods if placement.is_waiting(pod)}
        if not waiting:
            return
        planned = placement.plan(pods, self._mirror.all(NODES))
        if planned.nodes:
            log.info("binding pods", pods=len(planned.nodes), nodes=dict(Counter(planned.nodes.values())))
        carrying_out.for_each(
            waiting,
            lambda pod: self._carry_out(pod, planned, was_refused=_scheduled(waiting[pod]) == "False"),
        )

    def _carry_out(self, key: Key, planned: Placement, *, was_refused: bool) -> None:
        if key in planned.nodes:
            self._bind(key, planned.nodes[key], was_refused=was_refused)
        else:
            self._set_scheduled(key, {"status": "False", "reason": "Unschedulable", "message": planned.refusals[key]})

    def _bind(self, key: Key, node: str, *, was_refused: bool) -> None:
        self._update(key, lambda pod: bound(pod, node), _SPEC)
        if was_refused:
            self._set_scheduled(key, {"status": "True"})

    def _set_scheduled(self, key: Key, condition: Object) -> None:
        now = lifecycle.format_time(datetime.now(UTC))
        self._update(key, lambda pod: with_scheduled(pod, condition, now), _STATUS)

    def _update(self, key: Key, change: Callable[[Object], Object], options: Options) -> None:
        try:
            self._registry.update(PODS, *key, change, options)
        except NotFound:  # deleted while it was being decided about
            return


def bound(pod: Object, node: str) -> Object:
    """The pod on its node, if it still waits for one."""
    return pod | {"spec": pod["spec"] | {"nodeName": node}} if placement.is_waiting(pod) else pod


def with_scheduled(pod: Object, condition: Object, now: str) -> Object:
    """The pod with its PodScheduled condition; unchanged when it says the same already."""
    return conditions.put(pod, {"type": _SCHEDULED} | condition, now)


def _scheduled(pod: Object) -> str:
    return conditions.status_of(pod, _SCHEDULED)
