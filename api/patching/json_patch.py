"""JSON patch, RFC 6902: a list of operations at JSON pointers, all of which apply or none."""

import copy
from collections.abc import Callable
from typing import Any, Final

from api.encoding import encode
from api.model import Object
from kube.errors import BadRequest, Invalid

_MOST_OPERATIONS: Final = 10_000  # as kube-apiserver
# Repeated `copy` doubles an object each time; no object may be larger than a request anyway.
_MOST_COPIED: Final = 3 * 1024 * 1024
_OPERATIONS: Final = frozenset({"add", "remove", "replace", "move", "copy", "test"})


def change(patch: Any) -> Callable[[Object], Object]:
    if not isinstance(patch, list):
        raise BadRequest("a JSON patch must be an array of operations")
    if len(patch) > _MOST_OPERATIONS:
        raise BadRequest(f"a JSON patch has at most {_MOST_OPERATIONS} operations, this one has {len(patch)}")
    for index, operation in enumerate(patch):
        _check(index, operation)
    return lambda obj: _Patching(obj).run(patch)


def _check(index: int, operation: Any) -> None:
    if not isinstance(operation, dict) or operation.get("op") not in _OPERATIONS:
        raise BadRequest(f"operation {index} of the JSON patch must have an op of {', '.join(sorted(_OPERATIONS))}")
    wanted = ["path", "from"] if operation["op"] in {"move", "copy"} else ["path"]
    for member in wanted:
        _parse(index, member, operation.get(member))
    if operation["op"] in {"add", "replace", "test"} and "value" not in operation:
        raise BadRequest(f"operation {index} of the JSON patch, {operation['op']}, needs a value")


def _parse(index: int, member: str, pointer: Any) -> list[str]:
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise BadRequest(
            f"operation {index} of the JSON patch needs a {member} that is a JSON pointer, like /spec/ports/0"
        )
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


class _Patching:
    """One object being patched."""

    def __init__(self, obj: Object) -> None:
        self._root: Any = copy.deepcopy(obj)
        self._copied = 0

    def run(self, patch: list[Object]) -> Object:
        for index, operation in enumerate(patch):
            try:
                self._apply(index, operation)
            except (LookupError, TypeError, ValueError) as error:
                raise Invalid(
                    f"operation {index} of the JSON patch, {operation['op']} {operation['path']!r}: {error}"
                ) from error
        if not isinstance(self._root, dict):
            raise Invalid("the JSON patch leaves something that is not an object")
        return self._root

    def _apply(self, index: int, operation: Object) -> None:
        path = _parse(index, "path", operation["path"])
        match operation["op"]:
            case "add":
                self._add(path, copy.deepcopy(operation["value"]))
            case "remove":
                self._remove(path)
            case "replace":
                self._get(path)
                self._put(path, copy.deepcopy(operation["value"]))
            case "move":
                self._move(_parse(index, "from", operation["from"]), path)
            case "copy":
                self._add(path, self._copy(_parse(index, "from", operation["from"])))
            case "test":
                if not _same(found := self._get(path), operation["value"]):
                    raise ValueError(f"found {encode(found).decode()}, expected {encode(operation['value']).decode()}")

    def _get(self, path: list[str]) -> Any:
        value = self._root
        for part in path:
            value = value[_index(value, part)] if isinstance(value, list) else _member(value, part)
        return value

    def _copy(self, source: list[str]) -> Any:
        value = copy.deepcopy(self._get(source))
        self._copied += len(encode(value))
        if self._copied > _MOST_COPIED:
            raise ValueError(f"copies more than {_MOST_COPIED} bytes")
        return value

    def _move(self, source: list[str], path: list[str]) -> None:
        if path[: len(source)] == source and path != source:
            raise ValueError("cannot move a value into itself")
        self._add(path, self._remove(source))

    def _add(self, path: list[str], value: Any) -> None:
        if not path:
            self._root = value
            return
        parent = self._get(path[:-1])
        if isinstance(parent, list):
            parent.insert(len(parent) if path[-1] == "-" else _index(parent, path[-1], end=True), value)
        else:
            _container(parent)[path[-1]] = value

    def _put(self, path: list[str], value: Any) -> None:
        if not path:
            self._root = value
            return
        parent = self._get(path[:-1])
        parent[_index(parent, path[-1]) if isinstance(parent, list) else path[-1]] = value

    def _remove(self, path: list[str]) -> Any:
        if not path:
            raise ValueError("cannot remove the whole object")
        value = self._get(path)
        parent = self._get(path[:-1])
        del parent[_index(parent, path[-1]) if isinstance(parent, list) else path[-1]]
        return value


def _container(value: Any) -> Object:
    if not isinstance(value, dict):
        raise ValueError("its parent is neither an object nor an array")  # noqa: TRY004 - the patch is wrong, not a type of ours
    return value


def _member(value: Any, part: str) -> Any:
    if part not in _container(value):
        raise LookupError(f"there is no {part!r}")
    return value[part]


def _index(array: list[Any], part: str, *, end: bool = False) -> int:
    """RFC 6901: digits without leading zeros; `end` allows the position after the last."""
    if not (part.isascii() and part.isdigit()) or (len(part) > 1 and part[0] == "0"):
        raise ValueError(f"{part!r} is not an array index")
    if (index := int(part)) >= len(array) + end:
        raise LookupError(f"index {index} is outside an array of {len(array)}")
    return index


def _same(left: Any, right: Any) -> bool:
    """Equality of JSON values; unlike in Python, true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)
