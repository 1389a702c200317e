"""What a list or a watch says, read from its bytes: typed changes of one collection.

Objects are decoded straight from the bytes into the fields somebody reads. One object that cannot be decoded is
reported and costs only itself: the page or the stream around it goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from kube.errors import UNREADABLE_JSON, from_status
from kube.objects import ObjectMeta


class HasMetadata(Protocol):
    """Any object of the API."""

    @property
    def metadata(self) -> ObjectMeta: ...


T = TypeVar("T", bound=HasMetadata)


class Key(NamedTuple):
    """What tells objects of one kind apart; the namespace of a cluster-wide object is empty."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def key_of(metadata: ObjectMeta) -> Key:
    return Key(metadata.namespace, metadata.name)


@dataclass(frozen=True, slots=True)
class Replace(Generic[T]):
    """The whole collection as it is; what is not in it is gone.

    `unreadable` exist but could not be decoded: what is known of them stays as it was.
    """

    objects: tuple[T, ...]
    unreadable: frozenset[Key] = frozenset()


@dataclass(frozen=True, slots=True)
class Put(Generic[T]):
    """One object was added or changed."""

    obj: T


@dataclass(frozen=True, slots=True)
class Remove:
    """One object is gone, or is no longer selected."""

    key: Key


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One answer to a list. `position` asks for the next one; empty: this was the last."""

    objects: tuple[T, ...]
    unreadable: frozenset[Key]
    version: str
    position: str


@dataclass(frozen=True, slots=True)
class Event(Generic[T]):
    """One line of a watch: the resourceVersion it leads to and the change, if there is one to make."""

    version: str
    change: Put[T] | Remove | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something of the stream that was skipped: the object's key if it could be found, and what is wrong with it."""

    key: Key | None
    reason: str
    uid: str = ""


class Garbled(Exception):
    """Bytes that are not the JSON of a list or an event: cut off, or not from an API server."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.what = what
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.what} cannot be read: {self.reason}"


class _Identity(msgspec.Struct, frozen=True):
    name: str
    namespace: str = ""
    uid: str = ""
    version: str = msgspec.field(default="", name="resourceVersion")


class _Identified(msgspec.Struct, frozen=True):
    metadata: _Identity


class _Version(msgspec.Struct, frozen=True):
    version: str = msgspec.field(default="", name="resourceVersion")


class _Versioned(msgspec.Struct, frozen=True):
    metadata: _Version


class _Line(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _ListMeta(msgspec.Struct, frozen=True):
    version: str = msgspec.field(name="resourceVersion")
    position: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct, frozen=True):
    metadata: _ListMeta
    items: tuple[msgspec.Raw, ...] | None = None  # Go writes an empty list as null


_LIST: Final = msgspec.json.Decoder(_List)
_LINE: Final = msgspec.json.Decoder(_Line)
_IDENTIFIED: Final = msgspec.json.Decoder(_Identified)
_VERSIONED: Final = msgspec.json.Decoder(_Versioned)


class EventDecoder(Generic[T]):
    """Reads the pages and lines of one kind of object; what it must skip goes to `on_unreadable`."""

    def __init__(self, kind: type[T], on_unreadable: Callable[[Unreadable], None]) -> None:
        self._object: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)
        self._on_unreadable = on_unreadable

    def page(self, body: bytes) -> Page[T]:
        """Read one answer to a list; raises Garbled."""
        try:
            answer = _LIST.decode(body)
        except UNREADABLE_JSON as error:
            raise Garbled("the list", str(error)) from error
        if not answer.metadata.version:
            raise Garbled("the list", "metadata.resourceVersion is empty, so it cannot be watched from there")
        objects: list[T] = []
        unreadable: set[Key] = set()
        for item in answer.items or ():
            try:
                objects.append(self._object.decode(item))
            except UNREADABLE_JSON as error:
                identity = self._report(item, error)
                unreadable |= {Key(identity.namespace, identity.name)} if identity else set()
        return Page(tuple(objects), frozenset(unreadable), answer.metadata.version, answer.metadata.position)

    def line(self, line: bytes) -> Event[T]:
        """Read one line of a watch; raises Garbled, or the ApiError that an ERROR event means."""
        try:
            event = _LINE.decode(line)
            match event.type:
                case "ADDED" | "MODIFIED":
                    return self._put(event.object)
                case "DELETED":
                    # The object's other fields do not matter any more, so they need not be readable.
                    gone = _IDENTIFIED.decode(event.object).metadata
                    return Event(gone.version, Remove(Key(gone.namespace, gone.name)))
                case "BOOKMARK":
                    return Event(_VERSIONED.decode(event.object).metadata.version)
        except UNREADABLE_JSON as error:
            raise Garbled("a line of the watch", str(error)) from error
        if event.type == "ERROR":
            raise from_status(0, bytes(event.object))
        self._on_unreadable(Unreadable(None, f"unknown type of event {event.type!r}"))
        return Event("")

    def _put(self, raw: msgspec.Raw) -> Event[T]:
        try:
            obj = self._object.decode(raw)
        except UNREADABLE_JSON as error:
            identity = self._report(raw, error)
            return Event(identity.version if identity else "")
        return Event(obj.metadata.resource_version, Put(obj))

    def _report(self, raw: msgspec.Raw, error: Exception) -> _Identity | None:
        try:
            identity = _IDENTIFIED.decode(raw).metadata
        except UNREADABLE_JSON:
            self._on_unreadable(Unreadable(None, str(error)))
            return None
        self._on_unreadable(Unreadable(Key(identity.namespace, identity.name), str(error), identity.uid))
        return identity
