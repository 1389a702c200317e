"""Server-side apply: a client sends all it cares about, and owns exactly that.

Fields it stops sending are removed, unless another applier owns them. Fields another applier owns with another value
are a conflict, unless the client forces it and takes them over. Owners are remembered in metadata.managedFields.
Writers that do not apply own nothing here: a change by `kubectl edit` is overwritten by the next apply without a
conflict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from api.lifecycle import format_time
from api.model import Object
from api.patching import fieldsets, schema
from api.patching.fieldsets import FieldSet
from api.patching.schema import Path
from kube.errors import BadRequest, Cause, Conflict, Details
from kube.resources import ResourceType

# Identity and the server's own fields belong to nobody.
_UNOWNED: Final[FieldSet] = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {
        f"f:{field}": {}
        for field in (
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "selfLink",
            "managedFields",
        )
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owner:
    """One entry of managedFields."""

    manager: str
    fields: FieldSet
    entry: Object


class Applying:
    """One apply request; `change` is the function from the object as it is to the object as it becomes."""

    def __init__(self, resource: ResourceType, config: Any, *, manager: str, force: bool, now: datetime) -> None:
        if not isinstance(config, dict) or not isinstance(config.get("metadata", {}), dict):
            raise BadRequest("an apply patch must be a JSON object")
        if config.get("metadata", {}).get("managedFields"):
            raise BadRequest("metadata.managedFields must be nil in an apply patch")
        self._resource = resource
        self._config: Object = config
        self._manager = manager
        self._force = force
        self._now = now
        # An item of its own mark has members, so what is unowned is told by whole leaves only.
        self._wanted = _owned(fieldsets.of(resource.kind, config))

    def change(self, obj: Object) -> Object:
        """Apply to the object; {} stands for one that does not exist yet."""
        owners = _owners(obj)
        others = [owner for owner in owners if owner.manager != self._manager]
        mine = next((owner for owner in owners if owner.manager == self._manager), None)
        others = [self._without_contested(obj, owner) for owner in others]
        result = _merged(self._resource.kind, obj, self._config, ())
        result = fieldsets.without(result, self._given_up(mine, others))
        entries = [owner.entry for owner in others if owner.fields] + [self._entry(mine)]
        return {**result, "metadata": {**result.get("metadata", {}), "managedFields": entries}}

    def _without_contested(self, obj: Object, owner: _Owner) -> _Owner:
        """The other owner with what it loses to us; a conflict unless we force it."""
        shared = fieldsets.leaves(fieldsets.both(self._wanted, owner.fields))
        contested = [path for path in shared if fieldsets.find(obj, path) != fieldsets.find(self._config, path)]
        if not contested:
            return owner
        if not self._force:
            raise _conflict(owner.manager, contested)
        fields = owner.fields
        for path in contested:
            fields = fieldsets.minus(fields, _chain(path))
        return _Owner(manager=owner.manager, fields=fields, entry={**owner.entry, "fieldsV1": fields})

    def _given_up(self, mine: _Owner | None, others: Sequence[_Owner]) -> FieldSet:
        """What we owned and no longer send, and nobody else owns."""
        given_up = fieldsets.minus(mine.fields, self._wanted) if mine else {}
        for owner in others:
            given_up = fieldsets.minus(given_up, owner.fields)
        return given_up

    def _entry(self, mine: _Owner | None) -> Object:
        if mine is not None and mine.fields == self._wanted:
            return mine.entry  # with its old time: applying the same again changes nothing
        return {
            "manager": self._manager,
            "operation": "Apply",
            "apiVersion": self._resource.api_version,
            "time": format_time(self._now),
            "fieldsType": "FieldsV1",
            "fieldsV1": self._wanted,
        }


def _owned(fields: FieldSet) -> FieldSet:
    owned = fieldsets.minus(fields, _UNOWNED)
    return {key: below for key, below in owned.items() if below or fields[key] == {}}


def _owners(obj: Object) -> list[_Owner]:
    entries = obj.get("metadata", {}).get("managedFields") or []
    return [
        _Owner(manager=entry["manager"], fields=entry["fieldsV1"], entry=entry)
        for entry in entries
        if entry.get("operation") == "Apply"
    ]


def _chain(path: tuple[str, ...]) -> FieldSet:
    fields: FieldSet = {}
    for step in reversed(path):
        fields = {step: fields}
    return fields


def _conflict(manager: str, paths: Sequence[tuple[str, ...]]) -> Conflict:
    message = f'conflict with "{manager}"'
    causes = tuple(
        Cause(reason="FieldManagerConflict", message=message, field=fieldsets.readable(path)) for path in paths
    )
    listed = ", ".join(cause.field for cause in causes)
    noun = "conflict" if len(causes) == 1 else "conflicts"
    text = f"Apply failed with {len(causes)} {noun}: {message}: {listed}"
    return Conflict(text, details=Details(causes=causes))


def _merged(kind: str, current: Any, config: Any, path: Path) -> Any:
    if isinstance(config, dict) and isinstance(current, dict) and not schema.is_atomic_map(kind, path):
        merged = {key: _merged(kind, current.get(key), member, (*path, key)) for key, member in config.items()}
        return {**current, **merged}
    list_type = schema.list_type(kind, path) if isinstance(config, list) and isinstance(current, list) else None
    if list_type is None:
        return config
    there = {fieldsets.item_key(item, list_type): item for item in current}
    sent = {fieldsets.item_key(item, list_type): item for item in config}
    if len(sent) < len(config):
        raise BadRequest(f"{'.'.join(path)}: two items have the same {', '.join(list_type.map_keys) or 'value'}")
    for key, item in sent.items():
        there[key] = _merged(kind, there[key], item, path) if key in there else item
    return list(there.values())
