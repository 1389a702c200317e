"""How objects, lists and events look on the wire, in each shape a client can ask for."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from api import tables
from api.encoding import encode
from api.model import Object
from api.negotiation import Shape
from api.selection import Kept
from api.watch.stream import EventType
from api.watch.topic import Topic
from kube.errors import ApiError, to_status
from kube.resources import ResourceType

_INITIAL_EVENTS_END: Final = {"k8s.io/initial-events-end": "true"}


class Rendering(Protocol):
    """One shape of answer; an api.watch.stream.Rendering as well."""

    def one(self, kept: Kept) -> bytes: ...
    def many(self, items: Sequence[Kept], metadata: Object) -> bytes: ...
    def event(self, event_type: EventType, kept: Kept) -> bytes: ...
    def bookmark(self, revision: int, *, ends_initial: bool) -> bytes: ...
    def error(self, error: ApiError) -> bytes: ...


def rendering(topic: Topic, shape: Shape, include: tables.Include, now: Callable[[], datetime]) -> Rendering:
    match shape:
        case Shape.TABLE:
            return _Rows(topic, include, now)
        case Shape.METADATA:
            return _Metadata()
        case _:
            return _Whole(topic.resource)


def event_line(event_type: str, encoded: bytes) -> bytes:
    return b'{"type":"%b","object":%b}\n' % (event_type.encode(), encoded)


class _Errors:
    """Errors look the same in every shape."""

    def error(self, error: ApiError) -> bytes:
        return event_line("ERROR", encode(to_status(error)))


class _Whole(_Errors):
    """Objects as they are: everything is a join of bytes encoded once."""

    def __init__(self, resource: ResourceType) -> None:
        self._identity: Object = {"kind": resource.kind, "apiVersion": resource.api_version}
        self._list: Object = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version}

    def one(self, kept: Kept) -> bytes:
        return kept.encoded

    def many(self, items: Sequence[Kept], metadata: Object) -> bytes:
        head = encode({**self._list, "metadata": metadata, "items": []})
        return b"%b%b]}" % (head[:-2], b",".join([kept.encoded for kept in items]))

    def event(self, event_type: EventType, kept: Kept) -> bytes:
        return event_line(event_type, kept.encoded)

    def bookmark(self, revision: int, *, ends_initial: bool) -> bytes:
        return _bookmark(self._identity, revision, ends_initial=ends_initial)


class _Metadata(_Errors):
    """Metadata alone, for clients that only count or collect."""

    _IDENTITY: Final = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}

    def one(self, kept: Kept) -> bytes:
        return encode(tables.partial(kept))

    def many(self, items: Sequence[Kept], metadata: Object) -> bytes:
        identity = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
        return encode({**identity, "metadata": metadata, "items": [tables.partial(kept) for kept in items]})

    def event(self, event_type: EventType, kept: Kept) -> bytes:
        return event_line(event_type, self.one(kept))

    def bookmark(self, revision: int, *, ends_initial: bool) -> bytes:
        return _bookmark(self._IDENTITY, revision, ends_initial=ends_initial)


class _Rows(_Errors):
    """Tables; a watch's events are tables of one row, of which only the first repeats the columns."""

    def __init__(self, topic: Topic, include: tables.Include, now: Callable[[], datetime]) -> None:
        self._columns = topic.strategy.columns
        self._include: tables.Include = include
        self._now = now
        self._headed = False

    def one(self, kept: Kept) -> bytes:
        return self.many([kept], {"resourceVersion": str(kept.revision)})

    def many(self, items: Sequence[Kept], metadata: Object) -> bytes:
        return encode(self._table(items, metadata))

    def event(self, event_type: EventType, kept: Kept) -> bytes:
        return event_line(event_type, self._next(self._table([kept], {"resourceVersion": str(kept.revision)})))

    def bookmark(self, revision: int, *, ends_initial: bool) -> bytes:
        table = self._table([], {"resourceVersion": str(revision)})
        if ends_initial:
            # client-go finds the mark in the first row's object.
            mark = {"resourceVersion": str(revision), "annotations": _INITIAL_EVENTS_END}
            obj = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": mark}
            table["rows"] = [{"cells": [], "object": obj}]
        return event_line("BOOKMARK", self._next(table))

    def _table(self, items: Sequence[Kept], metadata: Object) -> Object:
        return tables.table(self._columns, items, self._now(), include=self._include, metadata=metadata)

    def _next(self, table: Object) -> bytes:
        if self._headed:
            table["columnDefinitions"] = None
        self._headed = True
        return encode(table)


def _bookmark(identity: Object, revision: int, *, ends_initial: bool) -> bytes:
    metadata: dict[str, Any] = {"resourceVersion": str(revision)}
    if ends_initial:
        metadata["annotations"] = _INITIAL_EVENTS_END
    return event_line("BOOKMARK", encode({**identity, "metadata": metadata}))
