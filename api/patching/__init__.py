"""Changing part of an object: the four ways Kubernetes knows, each a function from the old object to the new one."""

from collections.abc import Callable
from typing import Any, Final

from api.model import Object
from api.patching import json_patch, merge_patch, strategic
from kube.errors import UnsupportedMediaType
from kube.resources import ResourceType

JSON: Final = "application/json-patch+json"
MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"
CONTENT_TYPES: Final = (JSON, MERGE, STRATEGIC, APPLY)


def change(resource: ResourceType, patch: Any, content_type: str) -> Callable[[Object], Object]:
    """The change that a patch document describes."""
    match content_type:
        case "application/json-patch+json":
            return json_patch.change(patch)
        case "application/merge-patch+json":
            return merge_patch.change(patch)
        case "application/strategic-merge-patch+json":
            return strategic.change(resource.kind, patch)
    raise UnsupportedMediaType(f"{content_type!r} is not a patch; send one of {', '.join(CONTENT_TYPES)}")
