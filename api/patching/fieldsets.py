"""Sets of fields, as managedFields carries them (FieldsV1): nested maps of `f:NAME`, `k:{KEYS}` and `v:VALUE`.

A leaf is an empty map. `.` in an item or map stands for the item or map itself.
"""

from typing import Any, Final

from api.encoding import decode, encode
from api.model import Object
from api.patching import schema
from api.patching.schema import ListType, Path

FieldSet = dict[str, Any]
SELF: Final = "."


def of(kind: str, value: Any, path: Path = ()) -> FieldSet:
    """The fields that a configuration of this kind speaks of."""
    if isinstance(value, dict) and not schema.is_atomic_map(kind, path):
        return {f"f:{key}": of(kind, member, (*path, key)) for key, member in value.items()}
    if isinstance(value, list) and (list_type := schema.list_type(kind, path)) is not None:
        return {item_key(item, list_type): _of_item(kind, item, path) for item in value}
    return {}


def _of_item(kind: str, item: Any, path: Path) -> FieldSet:
    return {SELF: {}, **of(kind, item, path)} if isinstance(item, dict) else {}


def item_key(item: Any, list_type: ListType) -> str:
    """How an item of a keyed list or a set is named."""
    if list_type.is_set or not isinstance(item, dict):
        return f"v:{encode(item).decode()}"
    values = schema.identity(item, list_type.map_keys)
    return f"k:{encode(dict(sorted(zip(list_type.map_keys, values, strict=True)))).decode()}"


def minus(left: FieldSet, right: FieldSet) -> FieldSet:
    """Leaves of `left` that `right` does not have."""
    rest: FieldSet = {}
    for key, members in left.items():
        if key not in right:
            rest[key] = members
        elif members and (below := minus(members, right[key])):
            rest[key] = below
    return rest


def both(left: FieldSet, right: FieldSet) -> FieldSet:
    """Leaves that are in both sets; an item's own mark is not something to quarrel about."""
    shared: FieldSet = {}
    for key in left.keys() & right.keys() - {SELF}:
        if not left[key] and not right[key]:
            shared[key] = {}
        elif below := both(left[key], right[key]):
            shared[key] = below
    return shared


def leaves(fields: FieldSet, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths to every leaf."""
    found: list[tuple[str, ...]] = []
    for key, below in fields.items():
        found += leaves(below, (*path, key)) if below else [(*path, key)]
    return found


def find(obj: Any, path: tuple[str, ...]) -> Any:
    """The value at a path of a field set; None when there is none."""
    for step in path:
        if step == SELF:
            return obj
        obj = _member(obj, step)
    return obj


def without(obj: Object, fields: FieldSet) -> Object:
    """The object without these fields; a map or item goes only when it is named itself."""
    removed: Object = _without(obj, fields)
    return removed


def readable(path: tuple[str, ...]) -> str:
    """A path as people write it: `.spec.ports[port=80].targetPort`."""
    return "".join(_step(step) for step in path)


def _step(step: str) -> str:
    kind, _, name = step.partition(":")
    match kind:
        case "f":
            return f".{name}"
        case "k":
            return (
                "[" + ",".join(f"{key}={encode(value).decode()}" for key, value in decode(name.encode()).items()) + "]"
            )
        case "v":
            return f"[={name}]"
    return ""


def _member(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step.removeprefix("f:"))
    if isinstance(value, list):
        return next((item for item in value if _is(item, step)), None)
    return None


def _is(item: Any, step: str) -> bool:
    kind, _, name = step.partition(":")
    wanted = decode(name.encode())
    if kind == "v" or not isinstance(item, dict):
        return bool(item == wanted)
    return schema.identity(item, tuple(wanted)) == tuple(wanted.values())


def _without(value: Any, fields: FieldSet) -> Any:
    if isinstance(value, dict):
        members = ((key, member, fields.get(f"f:{key}")) for key, member in value.items())
        kept = (
            (key, member if below is None else _without(member, below)) for key, member, below in members if below != {}
        )
        return {key: member for key, member in kept if member is not None}
    if isinstance(value, list):
        items = (_item_without(item, fields) for item in value)
        return [item for item in items if item is not None]
    return value


def _item_without(item: Any, fields: FieldSet) -> Any:
    below = next((below for step, below in fields.items() if step != SELF and _is(item, step)), None)
    if below is None:
        return item
    if not below or SELF in below:
        return None
    return _without(item, below)
