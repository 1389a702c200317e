"""Strategic merge patch: a merge patch that knows which lists are maps, as `kubectl apply` and `kubectl edit` send it.

Directives: `$patch: replace|delete|merge` in a map or an item, `$retainKeys`, `$deleteFromPrimitiveList/FIELD` and
`$setElementOrder/FIELD`. One addition to Kubernetes: where several items share the merge key (a Service's port 53 for
TCP and UDP), the item that agrees on the other identifying members is the one meant.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from api.model import Object
from api.patching import schema
from api.patching.schema import ListType, Path
from kube.errors import BadRequest

_DIRECTIVE: Final = "$patch"
_RETAIN: Final = "$retainKeys"
_ORDER: Final = "$setElementOrder/"
_DELETE: Final = "$deleteFromPrimitiveList/"


def change(kind: str, patch: Any) -> Callable[[Object], Object]:
    if not isinstance(patch, dict):
        raise BadRequest("a strategic merge patch must be a JSON object")
    return lambda obj: _Merge(kind).map(obj, patch, ())


class _Merge:
    """Merging within one kind of object."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def map(self, current: Object, patch: Object, path: Path) -> Object:
        match patch.get(_DIRECTIVE, "merge"):
            case "replace":
                return _plain_map(patch)
            case "delete":
                return {}
            case "merge":
                return self._merged(current, patch, path)
        raise BadRequest(f"{_where(path)}: unknown directive $patch: {patch[_DIRECTIVE]!r}")

    def _merged(self, current: Object, patch: Object, path: Path) -> Object:
        result = _retained(current, patch.get(_RETAIN))
        for key, value in patch.items():
            if not key.startswith("$"):
                self._member(result, key, value, (*path, key))
        for key, value in patch.items():
            if key.startswith(_DELETE):
                _delete_from(result, key.removeprefix(_DELETE), _array(key, value))
        for key, value in patch.items():
            if key.startswith(_ORDER):
                self._order(result, current, _array(key, value), (*path, key.removeprefix(_ORDER)))
        return result

    def _member(self, result: Object, key: str, value: Any, path: Path) -> None:
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            current = result.get(key)
            result[key] = self.map(current if isinstance(current, dict) else {}, value, path)
        elif isinstance(value, list):
            current = result.get(key)
            result[key] = self._list(current if isinstance(current, list) else [], value, path)
        else:
            result[key] = value

    def _list(self, current: list[Any], patch: list[Any], path: Path) -> list[Any]:
        kind = schema.list_type(self._kind, path)
        if kind is None:
            return [_plain(item) for item in patch]
        if kind.is_set:
            return current + [item for item in patch if item not in current]
        items = [_item(path, item) for item in patch]
        if any(item.get(_DIRECTIVE) == "replace" for item in items):
            return [_plain(item) for item in items if item.get(_DIRECTIVE) != "replace" or len(item) > 1]
        result = [item for item in current if isinstance(item, dict)]
        for item in items:
            self._merge_item(result, item, kind, path)
        return result

    def _merge_item(self, result: list[Any], item: Object, kind: ListType, path: Path) -> None:
        at = _find(result, item, kind, path)
        if item.get(_DIRECTIVE) == "delete":
            if at is not None:
                del result[at]
        elif at is None:
            result.append(self.map({}, item, path))
        else:
            result[at] = self.map(result[at], item, path)

    def _order(self, result: Object, before: Object, order: list[Any], path: Path) -> None:
        """Bring the items named by the order into it; others keep their place relative to their old neighbours."""
        kind, items = schema.list_type(self._kind, path), result.get(path[-1])
        if kind is None or not isinstance(items, list):
            return
        wanted = [_key_of(entry, kind) for entry in order]
        old = [_key_of(entry, kind) for entry in before.get(path[-1]) or []]
        places = {id(item): _place(_key_of(item, kind), old) for item in items}
        named = [item for item in items if _key_of(item, kind) in wanted]
        others = [item for item in items if _key_of(item, kind) not in wanted]
        named.sort(key=lambda item: wanted.index(_key_of(item, kind)))
        result[path[-1]] = _interleaved(named, others, places)


def _place(key: Any, old: list[Any]) -> int:
    return old.index(key) if key in old else len(old)


def _interleaved(named: list[Any], others: list[Any], places: Mapping[int, int]) -> list[Any]:
    waiting = deque(others)
    result: list[Any] = []
    for item in named:
        while waiting and places[id(waiting[0])] < places[id(item)]:
            result.append(waiting.popleft())
        result.append(item)
    return [*result, *waiting]


def _find(items: list[Any], wanted: Object, kind: ListType, path: Path) -> int | None:
    if kind.merge_key not in wanted:
        raise BadRequest(f"{_where(path)}: an item lacks {kind.merge_key!r}, which tells the items apart")
    found = [at for at, item in enumerate(items) if item.get(kind.merge_key) == wanted[kind.merge_key]]
    if len(found) > 1:
        identity = schema.identity(wanted, kind.map_keys)
        return next((at for at in found if schema.identity(items[at], kind.map_keys) == identity), found[0])
    return found[0] if found else None


def _retained(current: Object, keys: Any) -> Object:
    return (
        dict(current)
        if keys is None
        else {key: value for key, value in current.items() if key in _array(_RETAIN, keys)}
    )


def _delete_from(result: Object, field: str, values: list[Any]) -> None:
    if isinstance(result.get(field), list):
        result[field] = [item for item in result[field] if item not in values]


def _plain(value: Any) -> Any:
    """The value without directives and nulls, as it is stored."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not key.startswith("$") and item is not None}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _plain_map(value: Object) -> Object:
    plain: Object = _plain(value)
    return plain


def _key_of(item: Any, kind: ListType) -> Any:
    return item.get(kind.merge_key) if isinstance(item, dict) else item


def _item(path: Path, item: Any) -> Object:
    if not isinstance(item, dict):
        raise BadRequest(f"{_where(path)}: items must be objects")
    return item


def _array(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadRequest(f"{name} must be an array")
    return value


def _where(path: Path) -> str:
    return ".".join(path) or "the patch"
