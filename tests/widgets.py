"""A kind made for tests: widgets, each of which takes a seat that is unique in the cluster.

Small enough to reason about, and with everything a kind can have: defaults, validation, claims, grace, a status.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from api.model import Admission, Claim, Claims, Column, Object
from api.registry import Registry
from api.store.sqlite import SqliteStore
from kube.errors import FieldError, Invalid
from kube.resources import NAMESPACES, ResourceType

WIDGETS = ResourceType(
    group="test.podwire", version="v1", plural="widgets", singular="widget", kind="Widget", namespaced=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WidgetStrategy:
    seats: int = 1000
    resource: ResourceType = WIDGETS
    short_names: tuple[str, ...] = ("wd",)
    columns: tuple[Column, ...] = (
        Column("Name", "string", 0, lambda obj, _now: obj["metadata"]["name"]),
        Column("Colour", "string", 0, lambda obj, _now: obj["spec"].get("colour", "")),
        Column("Seat", "integer", 1, lambda obj, _now: obj["spec"]["seat"]),
    )
    subresources: tuple[str, ...] = ("status",)

    def default(self, obj: Object) -> Object:
        return {**obj, "spec": {"colour": "grey"} | (obj.get("spec") or {})}

    def validate(self, obj: Object, old: Object | None) -> list[FieldError]:
        colour = obj["spec"]["colour"]
        return [] if isinstance(colour, str) and colour else [FieldError("spec.colour", colour, "must be a word")]

    def admit(self, obj: Object, old: Object | None, claims: Claims) -> Admission:
        seat = obj["spec"].get("seat")
        if seat is None:
            taken = claims.taken("seats")
            seat = next((seat for seat in range(self.seats) if str(seat) not in taken), None)
        if seat is None:
            raise Invalid.of(WIDGETS, obj["metadata"]["name"], [FieldError("spec.seat", None, "every seat is taken")])
        obj = obj | {"spec": obj["spec"] | {"seat": seat}}
        return Admission(obj=obj, claims=frozenset({Claim(pool="seats", value=str(seat))}))

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        return {"spec.colour": obj.get("spec", {}).get("colour", "")}

    def graceful_seconds(self, obj: Object, requested: int | None) -> int:
        return obj["spec"].get("grace", 0) if requested is None else requested


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainStrategy:
    """A kind without rules of its own."""

    resource: ResourceType = NAMESPACES
    short_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (Column("Name", "string", 0, lambda obj, _now: obj["metadata"]["name"]),)
    subresources: tuple[str, ...] = ()

    def default(self, obj: Object) -> Object:
        return obj

    def validate(self, obj: Object, old: Object | None) -> list[FieldError]:
        return []

    def admit(self, obj: Object, old: Object | None, claims: Claims) -> Admission:
        return Admission(obj=obj, claims=frozenset())

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        return {}

    def graceful_seconds(self, obj: Object, requested: int | None) -> int:
        return 0


def registry(store: SqliteStore | None = None, *, seats: int = 1000) -> Registry:
    """A registry of namespaces and widgets, with the namespace "home"."""
    made = Registry(store or SqliteStore(":memory:"), (PlainStrategy(), WidgetStrategy(seats=seats)))
    if made.topic(NAMESPACES).get(None, "home") is None:
        made.create(NAMESPACES, None, {"metadata": {"name": "home"}})
    return made


_names = itertools.count()


def widget(name: str | None = None, **spec: object) -> Object:
    return {"metadata": {"name": name or f"w{next(_names)}"}, "spec": dict(spec)}
