"""What controllers look at: decoded objects of a few kinds, findable by label, as new as the registry itself.

A controller that wrote something a moment ago must see it in its next round, or it would write it twice. So reading
is preceded by `catch_up`, in whichever thread reads; the registry's history makes that cheap when nothing is new.
Objects in the mirror are shared: nobody changes them.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from api.controllers.index import Key, LabelIndex, key_of
from api.encoding import decode
from api.model import Object
from api.registry import Registry
from api.selection import Kept
from api.watch.topic import Change, Cursor, Topic
from kube.errors import Gone
from kube.resources import ResourceType


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One object before and after a change; None where it was not, or is no more."""

    resource: ResourceType
    old: Object | None
    new: Object | None

    @property
    def key(self) -> Key:
        return key_of(self.new or self.old or {})


log = structlog.get_logger(__name__)

Observer = Callable[[Notice], None]


@dataclass(slots=True)
class _Copy:
    """One kind: where its history has been read to, and its objects there."""

    topic: Topic
    cursor: Cursor | None = None
    objects: dict[Key, Object] = field(default_factory=dict)
    index: LabelIndex = field(default_factory=LabelIndex)

    def news(self) -> Iterable[Notice]:
        """Take in what happened since the last call. After a gap in history, that is the difference across it."""
        try:
            changes = self.cursor.read()[0] if self.cursor else None
        except Gone:
            changes = None
        return self._restart() if changes is None else map(self._apply, changes)

    def _restart(self) -> Iterable[Notice]:
        cut, self.cursor = self.topic.follow()
        present = {(kept.namespace, kept.name): kept for kept in cut.items}
        for key in self.objects.keys() - present.keys():
            yield self._put(key, None)
        for key, kept in present.items():
            yield self._put(key, kept)

    def _apply(self, change: Change) -> Notice:
        subject = change.new or change.old
        return self._put((subject.namespace, subject.name) if subject else ("", ""), change.new)

    def _put(self, key: Key, kept: Kept | None) -> Notice:
        old = self.objects.pop(key, None)
        new: Object | None = decode(kept.encoded) if kept else None
        if new is None:
            self.index.remove(key)
        else:
            self.objects[key] = new
            self.index.put(key, new["metadata"].get("labels", {}))
        return Notice(resource=self.topic.resource, old=old, new=new)


class Mirror:
    """Copies of some kinds; safe to use from any thread."""

    def __init__(self, registry: Registry, kinds: Iterable[ResourceType]) -> None:
        self._copies = {kind: _Copy(registry.topic(kind)) for kind in kinds}
        self._observers: list[Observer] = []
        self._lock = threading.RLock()
        self._changed = threading.Event()

    def observe(self, observer: Observer) -> None:
        """Tell of every change from now on, in its order and with the mirror locked: mark a key and return."""
        with self._lock:
            self._observers.append(observer)

    def follow(self, stop: threading.Event) -> None:
        """Stay up to date until `stop` is set and `wake` called."""
        for copy in self._copies.values():
            copy.topic.listen(self.wake)
        try:
            while not stop.is_set():
                self.catch_up()
                self._changed.wait()
                self._changed.clear()
        finally:
            for copy in self._copies.values():
                copy.topic.forget(self.wake)

    def wake(self) -> None:
        self._changed.set()

    def catch_up(self) -> None:
        """Take in everything that was committed before this call, and tell the observers."""
        with self._lock:
            for copy in self._copies.values():
                for notice in copy.news():
                    self._tell(notice)

    def _tell(self, notice: Notice) -> None:
        for observer in self._observers:
            try:
                observer(notice)
            except Exception:  # one controller's defect must not hide a change from the others
                log.exception("a controller did not understand a change", kind=notice.resource.kind, key=notice.key)

    def get(self, kind: ResourceType, key: Key) -> Object | None:
        with self._lock:
            return self._copies[kind].objects.get(key)

    def all(self, kind: ResourceType) -> list[Object]:
        with self._lock:
            return list(self._copies[kind].objects.values())

    def select(self, kind: ResourceType, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        """Objects of a namespace that carry all of these labels."""
        with self._lock:
            copy = self._copies[kind]
            return [copy.objects[key] for key in copy.index.select(namespace, labels)]
