"""Keeps every Service's EndpointSlices: on any change of a Service, its pods or its slices, the Service is planned anew."""

from datetime import UTC, datetime

import structlog

from api.controllers import carrying_out, conditions, slices
from api.controllers.endpoints import ZONE
from api.controllers.index import Key, SelectorIndex
from api.controllers.mirror import Mirror, Notice
from api.controllers.node_lifecycle import is_lost
from api.model import Object
from api.registry import Registry
from api.resources.endpointslice import SERVICE_NAME
from api.resources.node import READY, UNKNOWN
from kube.control import ControlLoop
from kube.resources import ENDPOINT_SLICES, NAMESPACES, NODES, PODS, SERVICES

log = structlog.get_logger(__name__)

_UNHEARD = {"type": READY, "status": UNKNOWN}


class EndpointSlices:
    """A controller; its keys are Services."""

    name = "endpointslices"

    def __init__(self, registry: Registry, mirror: Mirror) -> None:
        self._registry = registry
        self._mirror = mirror
        self._selectors = SelectorIndex()
        self._changed_at: dict[Key, datetime] = {}
        self._silent: set[str] = set()  # names of lost nodes
        self.loop: ControlLoop[Key] = ControlLoop(self.name)

    def on_change(self, notice: Notice) -> None:
        if notice.resource == SERVICES:
            self._on_service(notice)
        elif notice.resource == PODS:
            self._on_pod(notice)
        elif notice.resource == ENDPOINT_SLICES:
            self._on_slice(notice)
        elif notice.resource == NODES:
            self._on_node(notice)

    def _on_node(self, notice: Notice) -> None:
        if _zone(notice.old) != _zone(notice.new):
            for service in self._mirror.all(SERVICES):
                self._mark((service["metadata"]["namespace"], service["metadata"]["name"]))
        _, name = notice.key
        was_silent = name in self._silent
        if notice.new is not None:  # a lost Node that is deleted has not been heard of because of that
            (self._silent.add if is_lost(notice.new) else self._silent.discard)(name)
        if was_silent != (name in self._silent):
            for pod in self._mirror.all(PODS):
                if pod["spec"].get("nodeName") == name:
                    self._mark_services_of(pod)

    def _on_service(self, notice: Notice) -> None:
        self._selectors.put(notice.key, notice.new["spec"].get("selector", {}) if notice.new else {})
        self._mark(notice.key)

    def _on_pod(self, notice: Notice) -> None:
        for pod in (notice.old, notice.new):
            if pod:
                self._mark_services_of(pod)

    def _mark_services_of(self, pod: Object) -> None:
        for key in self._selectors.matching(pod["metadata"]["namespace"], _labels(pod)):
            self._mark(key)

    def _on_slice(self, notice: Notice) -> None:
        namespace, _ = notice.key
        for piece in (notice.old, notice.new):
            service = _labels(piece).get(SERVICE_NAME)
            if service:
                self._mark((namespace, service))

    def _mark(self, key: Key) -> None:
        self._changed_at.setdefault(key, datetime.now(UTC))
        self.loop.mark(key)

    def sync(self, key: Key) -> None:
        changed_at = self._changed_at.pop(key, None) or datetime.now(UTC)
        carrying_out.settle(lambda: self._sync(key, changed_at))

    def _sync(self, key: Key, changed_at: datetime) -> bool:
        self._mirror.catch_up()
        namespace, name = key
        if _is_going(self._mirror.get(NAMESPACES, ("", namespace))):
            return False  # nothing can be added there, and all of it goes
        service = self._mirror.get(SERVICES, key)
        selector = service["spec"].get("selector", {}) if service else {}
        planned = slices.plan(
            service,
            map(self._as_known, self._mirror.select(PODS, namespace, selector)),
            self._mirror.select(ENDPOINT_SLICES, namespace, {SERVICE_NAME: name}),
            zones=self._zones(),
            changed_at=changed_at.isoformat().replace("+00:00", "Z"),
        )
        carrying_out.apply(self._registry, ENDPOINT_SLICES, planned)
        if planned:
            counts = {"created": len(planned.create), "replaced": len(planned.replace), "deleted": len(planned.delete)}
            log.info("endpoint slices written", service="/".join(key), **counts)
        return bool(planned)

    def _as_known(self, pod: Object) -> Object:
        """The pod; one of a lost node as one that is not ready, whatever was last heard of it."""
        return conditions.put(pod, _UNHEARD, "") if pod["spec"].get("nodeName") in self._silent else pod

    def _zones(self) -> dict[str, str]:
        nodes = self._mirror.all(NODES)
        return {node["metadata"]["name"]: zone for node in nodes if (zone := _zone(node))}


def _labels(obj: Object | None) -> dict[str, str]:
    return dict((obj or {}).get("metadata", {}).get("labels", {}))


def _zone(node: Object | None) -> str:
    return _labels(node).get(ZONE, "")


def _is_going(namespace: Object | None) -> bool:
    return namespace is None or "deletionTimestamp" in namespace["metadata"]
