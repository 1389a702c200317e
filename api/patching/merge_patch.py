"""JSON merge patch, RFC 7386: maps merge, null removes, everything else replaces."""

from collections.abc import Callable
from typing import Any

from api.model import Object
from kube.errors import BadRequest


def change(patch: Any) -> Callable[[Object], Object]:
    if not isinstance(patch, dict):
        raise BadRequest("a merge patch must be a JSON object")

    def merge(obj: Object) -> Object:
        merged: Object = _merged(obj, patch)
        return merged

    return merge


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result
