"""The first gate of every write: an object has the shape of its kind, or it goes no further."""

from typing import Any

import msgspec

from api.model import Object
from kube.errors import BadRequest
from kube.resources import ResourceType


def conform(obj: Object, resource: ResourceType, shape: type) -> Object:
    """A copy of the object without nulls whose named fields have their types; BadRequest names one that has not.

    In the API null means absent: `kubectl create --dry-run=client -o yaml` writes `creationTimestamp: null`.
    """
    try:
        copy: Object = _without_nulls(obj)
        msgspec.convert(copy, shape)
    except msgspec.ValidationError as error:
        raise _refusal(resource, str(error)) from None
    except RecursionError:
        raise _refusal(resource, "nested too deeply") from None
    return copy


def _refusal(resource: ResourceType, error: str) -> BadRequest:
    what, _, where = error.partition(" - at ")
    path = where.strip("`").removeprefix("$.")
    said = f"{path}: {what}" if path else what
    return BadRequest(f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {said}')


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value if item is not None]
    return value
