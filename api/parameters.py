"""Query parameters and bodies of options, read into values; what cannot be read is a 400 that names it."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from api import negotiation, protobuf
from api.encoding import decode, encode
from api.selection import Selection
from kube.errors import BadRequest, FieldError, Gone, Invalid
from kube.resources import ResourceType
from kube.selectors import parse_fields, parse_labels

_TRUE: Final = frozenset({"", "1", "true", "True", "TRUE", "t", "T"})
_FALSE: Final = frozenset({"0", "false", "False", "FALSE", "f", "F"})
_ALWAYS_SELECTABLE: Final = frozenset({"metadata.name", "metadata.namespace"})


class Query(Protocol):
    """A parsed query string; werkzeug's MultiDict is one."""

    def get(self, key: str) -> str | None: ...
    def getlist(self, key: str) -> list[str]: ...
    def __contains__(self, key: object) -> bool: ...


class _Token(msgspec.Struct, frozen=True):
    """A continue token: the revision of the list, and the last object already sent."""

    rv: int
    start: str


_TOKEN: Final = msgspec.json.Decoder(_Token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a list, and of which revision; 0 stands for the newest and for no limit."""

    limit: int = 0
    after: str = ""
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleting:
    """What a client asks of a deletion (metav1.DeleteOptions)."""

    grace_seconds: int | None = None
    dry_run: bool = False
    uid: str = ""
    resource_version: str = ""


def number(query: Query, name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(f"query parameter {name} must be a whole number, not {text!r}")
    return int(text)


def flag(query: Query, name: str) -> bool:
    if name not in query:
        return False
    text = query.get(name) or ""
    if text not in _TRUE | _FALSE:
        raise BadRequest(f"query parameter {name} must be true or false, not {text!r}")
    return text in _TRUE


def dry_run(query: Query) -> bool:
    return _is_dry_run(query.getlist("dryRun"))


def _is_dry_run(stages: Any) -> bool:
    if not isinstance(stages, list) or any(stage != "All" for stage in stages):
        raise BadRequest(f"dryRun can only be All, not {stages!r}")
    return bool(stages)


def selection(query: Query, namespace: str | None, selectable: frozenset[str]) -> Selection:
    """The selectors of a list or watch; a field the kind does not offer is refused, not ignored."""
    try:
        labels, fields = parse_labels(query.get("labelSelector") or ""), parse_fields(query.get("fieldSelector") or "")
    except ValueError as error:
        raise BadRequest(str(error)) from error
    if unknown := fields.fields - selectable - _ALWAYS_SELECTABLE:
        offered = ", ".join(sorted(selectable | _ALWAYS_SELECTABLE))
        raise BadRequest(f"field label not supported: {', '.join(sorted(unknown))}; this kind offers {offered}")
    return Selection(namespace=namespace, labels=labels, fields=fields)


def page(query: Query) -> Page:
    limit = number(query, "limit") or 0
    if token := query.get("continue"):
        position = _position(token)
        return Page(limit=limit, after=position.start, revision=position.rv)
    exact = query.get("resourceVersionMatch") == "Exact"
    return Page(limit=limit, revision=(number(query, "resourceVersion") or 0) if exact else 0)


def least_revision(query: Query) -> int:
    """The revision a list must not be older than."""
    return number(query, "resourceVersion") or 0


def continue_token(revision: int, after: str) -> str:
    return base64.urlsafe_b64encode(encode(_Token(rv=revision, start=after))).rstrip(b"=").decode()


def _position(token: str) -> _Token:
    try:
        return _TOKEN.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"continue key is not valid: {token!r}; list again from the start") from error


def deleting(resource: ResourceType, query: Query, options: Any) -> Deleting:
    """Options of a DELETE: from its body ({} when there is none), or those of them that fit in the query string."""
    if not isinstance(options, dict) or options.get("kind") not in (None, "", "DeleteOptions"):
        raise BadRequest("the body of a DELETE must be empty or DeleteOptions")
    preconditions = options.get("preconditions") or {}
    if not isinstance(preconditions, dict):
        raise BadRequest("preconditions must be an object")
    return Deleting(
        grace_seconds=_grace(resource, options.get("gracePeriodSeconds", number(query, "gracePeriodSeconds"))),
        dry_run=_is_dry_run(options.get("dryRun") or query.getlist("dryRun")),
        uid=_text("preconditions.uid", preconditions.get("uid")),
        resource_version=_text("preconditions.resourceVersion", preconditions.get("resourceVersion")),
    )


def _grace(resource: ResourceType, seconds: Any) -> int | None:
    if seconds is not None and (not isinstance(seconds, int) or isinstance(seconds, bool)):
        raise BadRequest(f"gracePeriodSeconds must be a whole number, not {seconds!r}")
    if seconds is not None and seconds < 0:
        error = FieldError("gracePeriodSeconds", seconds, "must be greater than or equal to 0")
        raise Invalid.of(resource, "", [error])
    return seconds


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str | None):
        raise BadRequest(f"{name} must be a string, not {value!r}")
    return value or ""


def body(content: bytes, content_type: str | None) -> Any:
    """The object that a request carries."""
    if negotiation.sent_type(content_type, negotiation.JSON, protobuf.CONTENT_TYPE) == protobuf.CONTENT_TYPE:
        return protobuf.decode(content)
    return json_body(content)


def json_body(content: bytes) -> Any:
    try:
        return decode(content)
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error


def must_not_be_newer(least: int, revision: int) -> None:
    """A revision from the future was given out by another store: the client has to start over."""
    if least > revision:
        raise Gone(f"unknown resource version: {least}, the newest is {revision}")


def starts_at(query: Query) -> int | None:
    """Where a watch goes on; None when it begins with everything there is ("" and "0")."""
    text = query.get("resourceVersion") or "0"
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(f"query parameter resourceVersion must be a whole number, not {text!r}")
    return int(text) or None
