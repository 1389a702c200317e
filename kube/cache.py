"""A copy of one collection of the API, kept by one thread and read by any.

Subscribers are told every difference as `(old, new)`, None standing for absent, from the thread that keeps the copy,
after the copy has changed. They must be quick and must not raise: mark a key dirty and return.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from kube.events import HasMetadata, Key, Put, Remove, Replace, key_of

T = TypeVar("T", bound=HasMetadata)


class Cache(Generic[T]):
    """Objects by namespace and name. Reading never waits for a writer or a subscriber."""

    def __init__(self) -> None:
        self.synced = threading.Event()
        """Set after the first complete list, when subscribers have heard of all of it."""
        self._objects: dict[Key, T] = {}
        self._subscribers: list[Callable[[T | None, T | None], None]] = []
        # Held while changing and telling. Readers do without: a dict's own operations are atomic.
        self._writing = threading.RLock()

    def get(self, namespace: str, name: str) -> T | None:
        return self._objects.get(Key(namespace, name))

    def snapshot(self) -> Mapping[Key, T]:
        """Return all objects as they are now; the mapping is the caller's own."""
        return self._objects.copy()

    def __len__(self) -> int:
        return len(self._objects)

    def subscribe(self, callback: Callable[[T | None, T | None], None]) -> None:
        """Call back for every object there is now, and for every change from now on."""
        with self._writing:
            self._subscribers.append(callback)
            for obj in self._objects.copy().values():
                callback(None, obj)

    def apply(self, change: Replace[T] | Put[T] | Remove) -> None:
        match change:
            case Replace():
                self.replace(change)
            case Put(obj):
                with self._writing:
                    self._put(key_of(obj.metadata), obj)
            case Remove(key):
                with self._writing:
                    self._remove(key)

    def replace(self, collection: Replace[T]) -> None:
        """Become exactly this collection, telling only the differences."""
        with self._writing:
            listed = {key_of(obj.metadata): obj for obj in collection.objects}
            for key in self._objects.keys() - listed.keys() - collection.unreadable:
                self._remove(key)
            for key, obj in listed.items():
                self._put(key, obj)
            self.synced.set()

    def _put(self, key: Key, obj: T) -> None:
        old = self._objects.get(key)
        # The same version of the same object: keep the one we have, so that a new list costs no memory.
        if old is not None and _is_same_version(old, obj):
            return
        self._objects[key] = obj
        self._tell(old, obj)

    def _remove(self, key: Key) -> None:
        old = self._objects.pop(key, None)
        if old is not None:
            self._tell(old, None)

    def _tell(self, old: T | None, new: T | None) -> None:
        for callback in self._subscribers:
            callback(old, new)


def _is_same_version(one: HasMetadata, other: HasMetadata) -> bool:
    mine, yours = one.metadata, other.metadata
    return mine.resource_version == yours.resource_version and mine.uid == yours.uid and bool(mine.resource_version)
