"""Keeps the promise of namespaces: the system's own exist, and with a namespace goes all that is in it."""

import structlog

from api.controllers import carrying_out
from api.controllers.mirror import Mirror, Notice
from api.encoding import decode
from api.model import Object
from api.registry import Registry
from api.resources.namespace import SYSTEM
from kube.control import ControlLoop
from kube.errors import AlreadyExists, NotFound
from kube.resources import NAMESPACES, ResourceType

log = structlog.get_logger(__name__)

# Pods end when their node says so; nothing else needs longer than its delete.
_LOOK_AGAIN_SECONDS = 1.0


class Namespaces:
    """A controller; its keys are names of namespaces."""

    name = "namespaces"

    def __init__(self, registry: Registry, mirror: Mirror) -> None:
        self._registry = registry
        self._mirror = mirror
        self._kinds = tuple(each.resource for each in registry.strategies if each.resource.namespaced)
        self.loop: ControlLoop[str] = ControlLoop(self.name)

    def ensure_system(self) -> None:
        """Create the namespaces everybody may rely on."""
        for name in SYSTEM:
            try:
                self._registry.create(NAMESPACES, None, {"metadata": {"name": name}})
            except AlreadyExists:
                continue

    def on_change(self, notice: Notice) -> None:
        namespace, name = notice.key
        if notice.resource == NAMESPACES:
            if notice.new is None or _is_terminating(notice.new):
                self.loop.mark(name)
        elif namespace and self._is_doomed(namespace):
            self.loop.mark(namespace)

    def _is_doomed(self, name: str) -> bool:
        namespace = self._mirror.get(NAMESPACES, ("", name))
        return namespace is None or _is_terminating(namespace)

    def sync(self, key: str) -> None:
        self._mirror.catch_up()
        namespace = self._mirror.get(NAMESPACES, ("", key))
        if namespace is not None and not _is_terminating(namespace):
            return
        if self._empty(key):
            self.loop.mark(key, after=_LOOK_AGAIN_SECONDS)
        elif namespace is not None:
            self._let_go(namespace)

    def _empty(self, name: str) -> int:
        """Delete what is in a namespace; returns how much of it still has to end."""
        content = [(kind, obj) for kind in self._kinds for obj in self._content(kind, name)]
        living = [(kind, obj) for kind, obj in content if "deletionTimestamp" not in obj["metadata"]]
        carrying_out.for_each(living, lambda each: carrying_out.delete(self._registry, *each))
        return sum(len(self._content(kind, name)) for kind in self._kinds)

    def _content(self, kind: ResourceType, namespace: str) -> list[Object]:
        items = self._registry.topic(kind).cut().items
        return [decode(kept.encoded) for kept in items if kept.namespace == namespace]

    def _let_go(self, namespace: Object) -> None:
        name, uid = namespace["metadata"]["name"], namespace["metadata"]["uid"]
        try:
            self._registry.update(NAMESPACES, None, name, lambda current: without_finalizers(current, uid))
        except NotFound:
            return
        log.info("namespace removed", namespace=name)


def without_finalizers(namespace: Object, uid: str) -> Object:
    """The namespace with nothing left to wait for, if it is the one that was emptied."""
    return namespace if namespace["metadata"]["uid"] != uid else namespace | {"spec": {}}


def _is_terminating(namespace: Object) -> bool:
    return "deletionTimestamp" in namespace["metadata"]
