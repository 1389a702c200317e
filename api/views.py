"""HTTP requests on one kind: read the request, ask the registry, answer.

Whatever is wrong with a request is raised as an ApiError; api.http turns it into a Status.
"""

import bisect
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from flask import Response, request

from api import negotiation, parameters, patching
from api.encoding import encode
from api.known_fields import FieldValidation
from api.model import Object
from api.negotiation import Shape
from api.parameters import Page
from api.patching import server_side
from api.registry import Options, Registry
from api.renderings import Rendering, rendering
from api.selection import Kept
from api.tables import Include
from api.watch.stream import Stream, Terms
from api.watch.topic import Cut, Topic
from api.watch.waiting import ConnectionWaiter
from kube.errors import BadRequest, NotFound
from kube.resources import ResourceType

CONNECTION: Final = "podwire.connection"  # the client's socket in the WSGI environment
# As kube-apiserver: watches that do not say end after 30 to 60 minutes, not all at once.
_WATCH_SECONDS: Final = (1800, 3600)
_INCLUDED: Final[Mapping[str, Include]] = {"None": "None", "Metadata": "Metadata", "Object": "Object"}


def json_response(body: bytes, status: int = 200, content_type: str = negotiation.JSON) -> Response:
    return Response(body, status=status, content_type=content_type)


class Views:
    """The verbs of one kind."""

    def __init__(self, registry: Registry, resource: ResourceType, now: Callable[[], datetime]) -> None:
        self._registry = registry
        self._resource = resource
        self._topic: Topic = registry.topic(resource)
        self._now = now

    def get(self, name: str, namespace: str | None = None) -> Response:
        answer = self._rendering(Shape.TABLE, Shape.METADATA)
        return json_response(answer.one(self._registry.find(self._resource, namespace, name)))

    def list_or_watch(self, namespace: str | None = None) -> Response:
        if parameters.flag(request.args, "watch"):
            return self._watch(namespace)
        answer = self._rendering(Shape.TABLE, Shape.METADATA)
        selection = parameters.selection(request.args, namespace, self._topic.selectable)
        page = parameters.page(request.args)
        cut = self._cut(page, namespace)
        chosen = _after(cut, page, self._topic)
        if namespace is not None or selection.is_narrowed:
            chosen = [kept for kept in chosen if selection.includes(kept)]
        sent = chosen[: page.limit] if page.limit else chosen
        metadata = _list_metadata(cut.revision, chosen, sent, self._topic, countable=not selection.is_narrowed)
        return json_response(answer.many(sent, metadata))

    def create(self, namespace: str | None = None) -> Response:
        negotiation.accepted(request.headers.get("Accept"))
        validation = self._validation()
        body = self._body()
        created = self._registry.create(self._resource, namespace, _checked(validation, body), self._options())
        return _written(created, validation, 201)

    def replace(self, name: str, namespace: str | None = None, subresource: str | None = None) -> Response:
        negotiation.accepted(request.headers.get("Accept"))
        validation = self._validation()
        body, options = self._body(), self._options(subresource)
        return _written(
            self._registry.replace(self._resource, namespace, name, _checked(validation, body), options), validation
        )

    def patch(self, name: str, namespace: str | None = None, subresource: str | None = None) -> Response:
        negotiation.accepted(request.headers.get("Accept"))
        kind = negotiation.sent_type(request.headers.get("Content-Type"), *patching.CONTENT_TYPES)
        document = parameters.json_body(request.get_data())
        validation, options = self._validation(), self._options(subresource)
        if kind == patching.APPLY:
            applying = self._applying(_checked(validation, document))
            obj, created = self._registry.apply(self._resource, namespace, name, applying.change, options)
            return _written(obj, validation, 201 if created else 200)
        change = patching.change(self._resource, document, kind)
        obj = self._registry.update(self._resource, namespace, name, lambda old: validation.check(change(old)), options)
        return _written(obj, validation)

    def delete(self, name: str, namespace: str | None = None) -> Response:
        negotiation.accepted(request.headers.get("Accept"))
        asked = self._asked()
        options = Options(dry_run=asked.dry_run, uid=asked.uid, resource_version=asked.resource_version)
        deletion = self._registry.delete(self._resource, namespace, name, asked.grace_seconds, options)
        return json_response(encode(self._gone(deletion.obj) if deletion.removed else deletion.obj))

    def delete_all(self, namespace: str | None = None) -> Response:
        """Delete what a list with the same selectors shows."""
        negotiation.accepted(request.headers.get("Accept"))
        selection = parameters.selection(request.args, namespace, self._topic.selectable)
        asked = self._asked()
        for kept in self._topic.cut(namespace).items:
            if selection.includes(kept):
                self._delete_if_there(kept, asked)
        return json_response(encode(_success({"group": self._resource.group, "kind": self._resource.plural})))

    def _delete_if_there(self, kept: Kept, asked: parameters.Deleting) -> None:
        namespace = kept.namespace if self._resource.namespaced else None
        options = Options(dry_run=asked.dry_run, uid=asked.uid)
        try:
            self._registry.delete(self._resource, namespace, kept.name, asked.grace_seconds, options)
        except NotFound:
            return  # somebody else was faster, which is what the client wants

    def _applying(self, document: Any) -> server_side.Applying:
        if not (manager := request.args.get("fieldManager")):
            raise BadRequest("fieldManager is required for apply patches: name who owns the fields")
        force = parameters.flag(request.args, "force")
        return server_side.Applying(self._resource, document, manager=manager, force=force, now=self._now())

    def _validation(self) -> FieldValidation:
        return FieldValidation(self._resource, request.args.get("fieldValidation"))

    def _watch(self, namespace: str | None) -> Response:
        answer = self._rendering(Shape.TABLE, Shape.METADATA)
        waiter = ConnectionWaiter(request.environ.get(CONNECTION))
        try:
            stream = Stream(self._topic, self._terms(namespace), answer, waiter, time.monotonic)
        except BaseException:
            waiter.close()
            raise
        response = Response(stream.chunks(), content_type=negotiation.JSON)
        response.call_on_close(waiter.close)
        return response

    def _terms(self, namespace: str | None) -> Terms:
        initial = parameters.flag(request.args, "sendInitialEvents")
        bookmarks = parameters.flag(request.args, "allowWatchBookmarks")
        start = parameters.starts_at(request.args)
        if initial:
            parameters.must_not_be_newer(start or 0, self._registry.hub.revision)
            start = None
        elif "sendInitialEvents" in request.args and start is None:
            start = self._registry.hub.revision
        return Terms(
            selection=parameters.selection(request.args, namespace, self._topic.selectable),
            start=start,
            seconds=parameters.number(request.args, "timeoutSeconds") or random.uniform(*_WATCH_SECONDS),  # noqa: S311 - spreads load
            bookmarks=bookmarks,
            initial_events_end=initial and bookmarks,
        )

    def _rendering(self, *offered: Shape) -> Rendering:
        shape = negotiation.accepted(request.headers.get("Accept"), *offered)
        include = _INCLUDED.get(request.args.get("includeObject") or "Metadata")
        if include is None:
            raise BadRequest(f"includeObject must be one of {', '.join(_INCLUDED)}")
        return rendering(self._topic, shape, include, self._now)

    def _cut(self, page: Page, namespace: str | None) -> Cut:
        if page.revision:
            return self._topic.cut_at(page.revision)
        cut = self._topic.cut(namespace)
        parameters.must_not_be_newer(parameters.least_revision(request.args), cut.revision)
        return cut

    def _body(self) -> Any:
        return parameters.body(request.get_data(), request.headers.get("Content-Type"))

    def _asked(self) -> parameters.Deleting:
        options = self._body() if request.get_data() else {}
        return parameters.deleting(self._resource, request.args, options)

    def _options(self, subresource: str | None = None) -> Options:
        return Options(subresource=subresource, dry_run=parameters.dry_run(request.args))

    def _gone(self, obj: Object) -> Object:
        metadata = obj["metadata"]
        return _success(
            {
                "name": metadata["name"],
                "group": self._resource.group,
                "kind": self._resource.plural,
                "uid": metadata["uid"],
            }
        )


def _checked(validation: FieldValidation, body: Any) -> Any:
    """The body, checked if it is an object at all; if it is not, the registry says so."""
    return validation.check(body) if isinstance(body, dict) else body


def _written(obj: Object, validation: FieldValidation, status: int = 200) -> Response:
    response = json_response(encode(obj), status)
    for warning in validation.warnings:
        # RFC 7234, 5.5: 299 is a warning to show to the user, in quotes and ASCII.
        escaped = warning.encode("unicode_escape").decode().replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{escaped}"')
    return response


def _after(cut: Cut, page: Page, topic: Topic) -> Sequence[Kept]:
    """The part of a list that comes after what earlier pages have sent."""
    if not page.after:
        return cut.items
    return cut.items[
        bisect.bisect_right(cut.items, page.after, key=lambda kept: topic.key(kept.namespace, kept.name)) :
    ]


def _list_metadata(
    revision: int, chosen: Sequence[Kept], sent: Sequence[Kept], topic: Topic, *, countable: bool
) -> Object:
    metadata: Object = {"resourceVersion": str(revision)}
    if len(sent) < len(chosen):
        metadata["continue"] = parameters.continue_token(revision, topic.key(sent[-1].namespace, sent[-1].name))
        if countable:
            metadata["remainingItemCount"] = len(chosen) - len(sent)
    return metadata


def _success(details: Object) -> Object:
    named = {key: value for key, value in details.items() if value}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": named}
