"""Why the API refused, as exceptions on both sides of the wire.

The server raises these and sends `to_status(error)`; the client reads that body with `from_status` and raises the same
class with the same values. Codes, reasons and messages are Kubernetes' own (metav1.Status), so that kubectl and
client-go understand our server and we understand theirs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

import msgspec

from kube.resources import ResourceType

# Longest part of a body that is not a Status to keep as a message: a proxy in between may answer with an HTML page.
_FOREIGN_BODY: Final = 256

UNREADABLE_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding foreign bytes raises; RecursionError for brackets nested some thousand deep."""

# metav1.CauseType -> the words field.Error starts its message with.
_CAUSE_TEXT: Final = MappingProxyType(
    {
        "FieldValueInvalid": "Invalid value",
        "FieldValueRequired": "Required value",
        "FieldValueDuplicate": "Duplicate value",
        "FieldValueForbidden": "Forbidden",
        "FieldValueNotFound": "Not found",
        "FieldValueNotSupported": "Unsupported value",
        "FieldValueTooLong": "Too long",
        "FieldValueTooMany": "Too many",
        "FieldValueTypeInvalid": "Invalid value",
        "InternalError": "Internal error",
    }
)
# Their messages do not repeat the value: there is none, or it is too long to print.
_VALUE_NOT_SHOWN: Final = frozenset(
    {"FieldValueRequired", "FieldValueForbidden", "FieldValueTooLong", "FieldValueTooMany", "InternalError"}
)


class Cause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reason why a write was refused, as it travels (metav1.StatusCause)."""

    reason: str = ""
    message: str = ""
    field: str = ""

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class Details(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What an error is about (metav1.StatusDetails). `kind` is the plural, except in Invalid, where it is the kind."""

    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: tuple[Cause, ...] = ()
    retry_after_seconds: int = 0


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field of an object that cannot stay as it is: its path, its value and what to do."""

    field: str
    value: object
    message: str
    reason: str = "FieldValueInvalid"

    def to_cause(self) -> Cause:
        parts = [_CAUSE_TEXT.get(self.reason, self.reason)]
        if self.reason not in _VALUE_NOT_SHOWN:
            parts.append(msgspec.json.encode(self.value, enc_hook=str).decode())
        if self.message:
            parts.append(self.message)
        return Cause(reason=self.reason, message=": ".join(parts), field=self.field)

    def __str__(self) -> str:
        return str(self.to_cause())


class ApiError(Exception):
    """An answer of the API that is not success."""

    code: int = 500
    reason: str = "Unknown"

    def __init__(
        self, message: str, *, details: Details | None = None, code: int | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.code = type(self).code if code is None else code
        self.reason = type(self).reason if reason is None else reason

    def __str__(self) -> str:
        return f"{self.message} ({self.code} {self.reason})"

    @property
    def retry_after(self) -> int:
        """Seconds the server asks to wait; 0 when it does not say."""
        return self.details.retry_after_seconds if self.details else 0


class Unreachable(Exception):
    """No answer at all: refused, timed out, broken off, or not the server its certificate should name.

    `connected` says that the request may have arrived, and may have been done.
    """

    def __init__(self, server: str, why: str, *, connected: bool = False) -> None:
        super().__init__(server, why)
        self.server = server
        self.why = why
        self.connected = connected

    def __str__(self) -> str:
        return f"{self.server} does not answer: {self.why}"


class BadRequest(ApiError):
    code = 400
    reason = "BadRequest"


class Unauthorized(ApiError):
    code = 401
    reason = "Unauthorized"


class Forbidden(ApiError):
    code = 403
    reason = "Forbidden"


class NotFound(ApiError):
    code = 404
    reason = "NotFound"

    @classmethod
    def of(cls, resource: ResourceType, name: str) -> Self:
        return cls(f'{_qualified(resource)} "{name}" not found', details=_about(resource, name))


class MethodNotAllowed(ApiError):
    code = 405
    reason = "MethodNotAllowed"


class NotAcceptable(ApiError):
    code = 406
    reason = "NotAcceptable"


class AlreadyExists(ApiError):
    code = 409
    reason = "AlreadyExists"

    @classmethod
    def of(cls, resource: ResourceType, name: str) -> Self:
        return cls(f'{_qualified(resource)} "{name}" already exists', details=_about(resource, name))


class Conflict(ApiError):
    """The object changed since it was read: read it again and repeat the change."""

    code = 409
    reason = "Conflict"
    MODIFIED: ClassVar = "the object has been modified; please apply your changes to the latest version and try again"

    @classmethod
    def of(cls, resource: ResourceType, name: str, *, why: str = MODIFIED) -> Self:
        message = f'Operation cannot be fulfilled on {_qualified(resource)} "{name}": {why}'
        return cls(message, details=_about(resource, name))


class Gone(ApiError):
    """The resourceVersion or continue token is older than what the server remembers: list again."""

    code = 410
    reason = "Expired"


class TooLarge(ApiError):
    code = 413
    reason = "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    code = 415
    reason = "UnsupportedMediaType"


class Invalid(ApiError):
    """Fields of the object are wrong: `details.causes` names each."""

    code = 422
    reason = "Invalid"

    @classmethod
    def of(cls, resource: ResourceType, name: str, errors: Iterable[FieldError]) -> Self:
        causes = tuple(error.to_cause() for error in errors)
        listed = ", ".join(str(cause) for cause in causes)
        text = listed if len(causes) == 1 else f"[{listed}]"
        kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
        details = Details(name=name, group=resource.group, kind=resource.kind, causes=causes)
        return cls(f'{kind} "{name}" is invalid: {text}', details=details)

    @property
    def causes(self) -> tuple[Cause, ...]:
        return self.details.causes if self.details else ()


class TooManyRequests(ApiError):
    code = 429
    reason = "TooManyRequests"


class InternalError(ApiError):
    code = 500
    reason = "InternalError"


class ServiceUnavailable(ApiError):
    code = 503
    reason = "ServiceUnavailable"


_CLASSES: Final[tuple[type[ApiError], ...]] = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    Conflict,
    AlreadyExists,
    Gone,
    TooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    InternalError,
    ServiceUnavailable,
)
_BY_REASON: Final[Mapping[str, type[ApiError]]] = {error.reason: error for error in _CLASSES} | {"Gone": Gone}
# 409 without a reason we know is a Conflict: reading again is right for it, and harmless for AlreadyExists.
_BY_CODE: Final[Mapping[int, type[ApiError]]] = {error.code: error for error in reversed(_CLASSES)}


class _Status(msgspec.Struct, frozen=True, kw_only=True):
    message: str | None = None
    reason: str | None = None
    details: Details | None = None
    code: int | None = None


_DECODER: Final = msgspec.json.Decoder(_Status)


def to_status(error: ApiError) -> dict[str, Any]:
    """Return the metav1.Status that says this error on the wire."""
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": error.message,
        "reason": error.reason,
        "code": error.code,
    }
    if error.details is not None:
        status["details"] = msgspec.to_builtins(error.details)
    return status


def from_status(code: int, body: bytes) -> ApiError:
    """Return the error a failed request means; never fails, whatever the body is.

    `code` is the HTTP status, used when the body does not say it better. Pass 0 for an ERROR event of a watch.
    """
    try:
        status = _DECODER.decode(body)
    except UNREADABLE_JSON:
        status = _Status()
    code = status.code or code or ApiError.code
    reason = status.reason or ""
    found = _BY_REASON.get(reason) or _BY_CODE.get(code) or ApiError
    message = status.message or _foreign_text(body) or f"the server answered {code}"
    return found(message, details=status.details, code=code, reason=reason or found.reason)


def _foreign_text(body: bytes) -> str:
    return body[:_FOREIGN_BODY].decode(errors="replace").strip()


def _qualified(resource: ResourceType) -> str:
    """The way Kubernetes names a collection in messages: `services`, `endpointslices.discovery.k8s.io`."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _about(resource: ResourceType, name: str) -> Details:
    return Details(name=name, group=resource.group, kind=resource.plural)
