"""Removes what nobody else will: pods of nodes that are gone, and events nobody reads any more."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import structlog

from api.controllers import carrying_out
from api.controllers.mirror import Mirror, Notice
from api.encoding import decode
from api.model import Object
from api.registry import Registry
from kube.control import ControlLoop
from kube.resources import EVENTS, NODES, PODS

log = structlog.get_logger(__name__)

# A pod may name its node before the node has registered; nobody waits longer than this for it.
PATIENCE = timedelta(seconds=40)
EVENT_LIFETIME = timedelta(hours=1)
_EVENT_ROUND_SECONDS = 60.0


class LostPods:
    """A controller; its keys are names of nodes. With the node gone, no one is left to end its pods."""

    name = "lost-pods"

    def __init__(self, registry: Registry, mirror: Mirror) -> None:
        self._registry = registry
        self._mirror = mirror
        self._deleted: set[str] = set()
        self.loop: ControlLoop[str] = ControlLoop(self.name)

    def on_change(self, notice: Notice) -> None:
        if notice.resource == NODES:
            _, node = notice.key
            (self._deleted.discard if notice.new else self._deleted.add)(node)
            self.loop.mark(node)
        elif notice.resource == PODS and notice.new:
            node = notice.new["spec"].get("nodeName", "")
            if node and self._mirror.get(NODES, ("", node)) is None:
                self.loop.mark(node, after=0.0 if node in self._deleted else PATIENCE.total_seconds())

    def sync(self, key: str) -> None:
        self._mirror.catch_up()
        if self._mirror.get(NODES, ("", key)) is not None:
            return
        pods = [pod for pod in self._mirror.all(PODS) if pod["spec"].get("nodeName") == key]
        patience = timedelta(0) if key in self._deleted else PATIENCE
        lost = lost_pods(pods, before=datetime.now(UTC) - patience)
        carrying_out.for_each(lost, lambda pod: carrying_out.delete(self._registry, PODS, pod, grace_seconds=0))
        if len(lost) < len(pods):
            self.loop.mark(key, after=PATIENCE.total_seconds())
        if lost:
            log.info("pods of a missing node removed", node=key, pods=len(lost))


class OldEvents:
    """A controller with one key: it looks through the events now and then."""

    name = "old-events"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.loop: ControlLoop[str] = ControlLoop(self.name)
        self.loop.mark("events")

    def on_change(self, notice: Notice) -> None:
        """Only time makes an event old."""

    def sync(self, key: str) -> None:
        events = (decode(kept.encoded) for kept in self._registry.topic(EVENTS).cut().items)
        old = old_events(events, before=datetime.now(UTC) - EVENT_LIFETIME)
        carrying_out.for_each(old, lambda event: carrying_out.delete(self._registry, EVENTS, event))
        if old:
            log.info("old events removed", events=len(old))
        self.loop.mark(key, after=_EVENT_ROUND_SECONDS)


def lost_pods(pods: Iterable[Object], *, before: datetime) -> list[Object]:
    """Pods created by then, in a stable order."""
    return sorted((pod for pod in pods if _created(pod) <= before), key=_name)


def old_events(events: Iterable[Object], *, before: datetime) -> list[Object]:
    """Events last seen before then."""
    return [event for event in events if _last_seen(event) < before]


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _created(obj: Object) -> datetime:
    return datetime.fromisoformat(obj["metadata"]["creationTimestamp"])


def _last_seen(event: Object) -> datetime:
    series = event.get("series", {}).get("lastObservedTime")
    try:
        seen = datetime.fromisoformat(series or event.get("lastTimestamp") or event.get("eventTime") or "")
        return max(seen, _created(event))
    except (ValueError, TypeError):  # what a client wrote need not be a time, nor have a zone
        return _created(event)
