"""Objects as rows of cells: what `kubectl get` prints (meta.k8s.io/v1 Table)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from api.encoding import decode
from api.model import Column, Object
from api.selection import Kept

_META: Final = "meta.k8s.io/v1"
Include = Literal["None", "Metadata", "Object"]


def table(
    columns: Sequence[Column], items: Sequence[Kept], now: datetime, *, include: Include, metadata: Object
) -> Object:
    """A Table of these objects; `metadata` is the list's."""
    return {
        "kind": "Table",
        "apiVersion": _META,
        "metadata": metadata,
        "columnDefinitions": [_definition(column) for column in columns],
        "rows": [_row(columns, kept, now, include) for kept in items],
    }


def partial(kept: Kept) -> Object:
    """The object's metadata alone."""
    return _partial(decode(kept.encoded))


def _definition(column: Column) -> Object:
    # kubectl finds the column it prefixes with the kind by this format.
    shape = "name" if column.name == "Name" else ""
    return {"name": column.name, "type": column.type, "format": shape, "description": "", "priority": column.priority}


def _row(columns: Sequence[Column], kept: Kept, now: datetime, include: Include) -> Object:
    obj: Object = decode(kept.encoded)
    row: Object = {"cells": [column.cell(obj, now) for column in columns]}
    if (included := _included(kept, obj, include)) is not None:
        row["object"] = included
    return row


def _included(kept: Kept, obj: Object, include: Include) -> Any:
    match include:
        case "Object":
            return msgspec.Raw(kept.encoded)
        case "Metadata":
            return _partial(obj)
        case "None":
            return None


def _partial(obj: Object) -> Object:
    return {"kind": "PartialObjectMetadata", "apiVersion": _META, "metadata": obj["metadata"]}
