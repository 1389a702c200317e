"""The life of an object's metadata: what the server sets, what a writer may change, how deletion is stamped.

All kinds share this, so it is here and not in their strategies. Pure: the time and new names are arguments.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from api.model import Object
from kube.errors import BadRequest, Conflict
from kube.resources import NAMESPACES, ResourceType

# The server alone decides these.
_SERVER_SIDE: Final = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "managedFields",
    "selfLink",
)
_TEXTS: Final = ("name", "generateName", "namespace", "uid", "resourceVersion")
# k8s.io/apiserver names.maxGeneratedNameLength: room for the suffix within 63 characters.
_LONGEST_PREFIX: Final = 58
_MOST_LEVELS: Final = 64
# A grace period is an int64; no calendar reaches as far as it can.
_LONGEST_GRACE: Final = 1000 * 365 * 86400


def format_time(moment: datetime) -> str:
    """metav1.Time: seconds, UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def read(resource: ResourceType, body: Any) -> Object:
    """A shallow copy of the body with its own metadata, if it can be an object of this kind at all; else BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest(f"the body must be a JSON object of kind {resource.kind}, not {_type_of(body)}")
    for field, expected in (("kind", resource.kind), ("apiVersion", resource.api_version)):
        if body.get(field) not in (None, "", expected):  # a tuple: the value may not be hashable
            raise BadRequest(f"{field} {body[field]!r} cannot be written here: this path takes {field} {expected!r}")
    metadata = body.get("metadata")
    if not isinstance(metadata, dict | None):
        raise BadRequest(f"metadata must be an object, not {_type_of(metadata)}")
    if not _is_within(body, _MOST_LEVELS):
        raise BadRequest(f"the object is nested deeper than {_MOST_LEVELS} levels")
    return {**body, "kind": resource.kind, "apiVersion": resource.api_version, "metadata": _checked(metadata or {})}


def _is_within(value: Any, levels: int) -> bool:
    """Whether a value nests at most so deep: what is stored must be readable from any depth of the stack."""
    if isinstance(value, dict):
        return levels > 0 and all(_is_within(item, levels - 1) for item in value.values())
    if isinstance(value, list):
        return levels > 0 and all(_is_within(item, levels - 1) for item in value)
    return True


def _checked(metadata: Object) -> Object:
    for field in _TEXTS:
        if not isinstance(metadata.get(field), str | None):
            raise BadRequest(f"metadata.{field} must be a string, not {_type_of(metadata[field])}")
    return dict(metadata)


def place(resource: ResourceType, obj: Object, namespace: str | None, name: str | None) -> None:
    """Give the object the namespace and name of its URL; a different one of its own is refused."""
    metadata = obj["metadata"]
    if resource.namespaced:
        if metadata.get("namespace") not in {None, "", namespace}:
            raise BadRequest(
                f"the namespace of the provided object ({metadata['namespace']}) does not match the namespace "
                f"sent on the request ({namespace})"
            )
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)
    if name is None:
        return
    if metadata.get("name") not in {None, "", name}:
        raise BadRequest(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")
    metadata["name"] = name


def born(obj: Object, *, now: datetime, uid: str, suffix: Callable[[], str], applied: bool) -> Object:
    """The object with the metadata of a new one; a missing name is generated.

    `applied` says that the server itself has computed who manages which fields.
    """
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _SERVER_SIDE}
    if applied:
        metadata["managedFields"] = obj["metadata"]["managedFields"]
    if metadata.pop("resourceVersion", None):
        raise BadRequest("metadata.resourceVersion must not be set on an object to be created")
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"][:_LONGEST_PREFIX] + suffix()
    metadata |= {"uid": uid, "creationTimestamp": format_time(now), "generation": 1}
    return {**obj, "metadata": metadata}


def replaced(resource: ResourceType, old: Object, new: Object, *, subresource: str | None, applied: bool) -> Object:
    """What a writer who wants `new` gets: `new`, with everything that is not the writer's taken from `old`."""
    before, metadata = old["metadata"], dict(new["metadata"])
    expect_uid(resource, old, metadata.get("uid"))
    for field in (*_SERVER_SIDE, "name", "namespace"):
        metadata.pop(field, None)
        if field in before:
            metadata[field] = before[field]
    if applied:
        metadata["managedFields"] = new["metadata"]["managedFields"]
    obj = {**_parts(old, new, subresource), "metadata": metadata}
    if _desired(obj) != _desired(old):
        metadata["generation"] = before.get("generation", 0) + 1
    return obj


def expect_uid(resource: ResourceType, obj: Object, uid: str | None) -> None:
    """The object must be this very one, and not another of the same name, if a uid is given."""
    metadata = obj["metadata"]
    if uid and uid != metadata["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata['uid']}"
        raise Conflict.of(resource, metadata["name"], why=why)


def _parts(old: Object, new: Object, subresource: str | None) -> Object:
    """Writes to `status` change only the status; other writes change all but the status."""
    if subresource == "status":
        return {**old, "status": new.get("status", {})}
    without_status = {key: value for key, value in new.items() if key != "status"}
    return {**without_status, "status": old["status"]} if "status" in old else without_status


def _desired(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in {"metadata", "status"}}


def finalizers(resource: ResourceType, obj: Object) -> list[str]:
    """Who must let go before the object can be removed. Namespaces have some in their spec, too."""
    listed = list(obj["metadata"].get("finalizers") or [])
    return listed + list(obj.get("spec", {}).get("finalizers") or []) if resource == NAMESPACES else listed


def is_finished(resource: ResourceType, obj: Object) -> bool:
    """Whether an object that is being deleted has nothing left to wait for."""
    metadata = obj["metadata"]
    waits = metadata.get("deletionGracePeriodSeconds", 0) > 0 and resource != NAMESPACES
    return "deletionTimestamp" in metadata and not waits and not finalizers(resource, obj)


def dying(obj: Object, *, now: datetime, seconds: int) -> Object:
    """The object stamped for deletion in so many seconds. A second stamp can only bring the end nearer."""
    metadata = obj["metadata"]
    if "deletionTimestamp" in metadata and metadata.get("deletionGracePeriodSeconds", 0) <= seconds:
        return obj
    end = now + timedelta(seconds=min(seconds, _LONGEST_GRACE))
    stamp = {"deletionTimestamp": format_time(end), "deletionGracePeriodSeconds": seconds}
    return {**obj, "metadata": {**metadata, **stamp}}


def _type_of(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
