"""The verbs of the Kubernetes API over one connection: get, list, watch, create, replace, patch, delete.

Answers are the server's bytes; with `decode=` they are typed objects, built straight from those bytes. Failures are
ApiError (the server refused) and Unreachable (it did not answer); repeating is the caller's decision.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar, overload

import msgspec

from kube.connection import Connection
from kube.errors import UNREADABLE_JSON, ApiError
from kube.resources import ResourceType
from kube.selectors import FieldSelector, LabelSelector
from kube.transport import LineStream, Transport

MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
STRATEGIC_MERGE_PATCH: Final = "application/strategic-merge-patch+json"

# How long a watch lasts when its query does not say, and the silence beyond that time that means a lost server.
_WATCH_SECONDS: Final = 300
_WATCH_SLACK: Final = 10.0
_PAGE: Final = 500
_NO_QUERY: Final[Mapping[str, str]] = MappingProxyType({})

T = TypeVar("T")


class UndecodableAnswer(ApiError):
    """A successful answer whose body is not what the API says it is."""

    reason = "UndecodableAnswer"


class _ListMeta(msgspec.Struct, frozen=True):
    continue_token: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct, frozen=True):
    items: tuple[msgspec.Raw, ...] | None = None  # Go writes an empty list as null
    metadata: _ListMeta = _ListMeta()


_PAGE_OF_OBJECTS: Final = msgspec.json.Decoder(_Page)


class Client:
    """The API as one identity sees it. Any number of threads may use it."""

    def __init__(self, connection: Connection, user_agent: str = "podwire") -> None:
        self._transport = Transport(connection, user_agent)

    @property
    def server(self) -> str:
        return self._transport.server

    def close(self) -> None:
        """Give up the idle connections; streams still open go on."""
        self._transport.close()

    @overload
    def get(self, resource: ResourceType, name: str, namespace: str | None = None, *, decode: type[T]) -> T: ...
    @overload
    def get(self, resource: ResourceType, name: str, namespace: str | None = None) -> bytes: ...
    def get(
        self, resource: ResourceType, name: str, namespace: str | None = None, *, decode: type[T] | None = None
    ) -> bytes | T:
        body = self._transport.request("GET", resource.path(namespace, name))
        return body if decode is None else _decoded(body, msgspec.json.Decoder(decode))

    @overload
    def list(
        self,
        resource: ResourceType,
        namespace: str | None = None,
        *,
        label_selector: LabelSelector | str | None = None,
        field_selector: FieldSelector | str | None = None,
        decode: type[T],
    ) -> tuple[T, ...]: ...
    @overload
    def list(
        self,
        resource: ResourceType,
        namespace: str | None = None,
        *,
        label_selector: LabelSelector | str | None = None,
        field_selector: FieldSelector | str | None = None,
        query: Mapping[str, str] = _NO_QUERY,
    ) -> bytes: ...
    def list(
        self,
        resource: ResourceType,
        namespace: str | None = None,
        *,
        label_selector: LabelSelector | str | None = None,
        field_selector: FieldSelector | str | None = None,
        query: Mapping[str, str] = _NO_QUERY,
        decode: type[T] | None = None,
    ) -> bytes | tuple[T, ...]:
        """Return the answer to one request, paged if `query` says so; with `decode=`, the items of all pages."""
        path = resource.path(namespace)
        selection = _selection(label_selector, field_selector)
        if decode is None:
            return self._transport.request("GET", path, query=selection | dict(query))
        return self._all_pages(path, selection, decode)

    def _all_pages(self, path: str, selection: dict[str, str], decode: type[T]) -> tuple[T, ...]:
        found: list[T] = []
        position: dict[str, str] = {}
        item = msgspec.json.Decoder(decode)
        while True:
            query = selection | {"limit": str(_PAGE)} | position
            page = _decoded(self._transport.request("GET", path, query=query), _PAGE_OF_OBJECTS)
            found += [_decoded(each, item) for each in page.items or ()]
            if not page.metadata.continue_token:
                return tuple(found)
            position = {"continue": page.metadata.continue_token}

    def watch(
        self,
        resource: ResourceType,
        namespace: str | None = None,
        *,
        label_selector: LabelSelector | str | None = None,
        field_selector: FieldSelector | str | None = None,
        query: Mapping[str, str] = _NO_QUERY,
    ) -> LineStream:
        """Return the stream of events, one JSON line each; close it when done.

        It raises Unreachable when nothing, not even a bookmark, came for longer than the watch was to last.
        """
        lasts = {"watch": "1", "timeoutSeconds": str(_WATCH_SECONDS)}
        full = lasts | _selection(label_selector, field_selector) | dict(query)
        read_timeout = float(full["timeoutSeconds"]) + _WATCH_SLACK
        return self._transport.stream(resource.path(namespace), query=full, read_timeout=read_timeout)

    def create(self, resource: ResourceType, body: Mapping[str, Any], namespace: str | None = None) -> bytes:
        return self._transport.request("POST", resource.path(namespace), body=msgspec.json.encode(body))

    def replace(
        self,
        resource: ResourceType,
        name: str,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        subresource: str | None = None,
    ) -> bytes:
        path = resource.path(namespace, name, subresource=subresource)
        return self._transport.request("PUT", path, body=msgspec.json.encode(body))

    def patch(
        self,
        resource: ResourceType,
        name: str,
        patch: object,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        content_type: str = MERGE_PATCH,
    ) -> bytes:
        path = resource.path(namespace, name, subresource=subresource)
        return self._transport.request("PATCH", path, body=msgspec.json.encode(patch), content_type=content_type)

    def delete(
        self, resource: ResourceType, name: str, namespace: str | None = None, *, grace_period: int | None = None
    ) -> bytes:
        """Delete one object; `grace_period` in seconds, 0 removes it at once."""
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        path = resource.path(namespace, name)
        return self._transport.request("DELETE", path, body=msgspec.json.encode(options))


def _decoded(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(body)
    except UNREADABLE_JSON as error:
        raise UndecodableAnswer(f"the server's answer cannot be read: {error}") from error


def _selection(
    label_selector: LabelSelector | str | None, field_selector: FieldSelector | str | None
) -> dict[str, str]:
    labels, fields = str(label_selector or ""), str(field_selector or "")
    return ({"labelSelector": labels} if labels else {}) | ({"fieldSelector": fields} if fields else {})
