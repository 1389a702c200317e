"""Events: what happened to an object, for people to read with `kubectl describe` and `kubectl get events`."""

from collections.abc import Mapping
from dataclasses import dataclass

from api.model import Admission, Claims, Column, Object
from api.resources import cells, fields, metadata, names, shapes
from api.resources.conform import conform
from kube import resources
from kube.errors import FieldError
from kube.resources import ResourceType

_SELECTABLE = ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")


def _first(event: Object) -> str | None:
    return event.get("firstTimestamp") or event.get("eventTime")


def _last(event: Object) -> str | None:
    return event.get("series", {}).get("lastObservedTime") or event.get("lastTimestamp") or _first(event)


def _count(event: Object) -> int:
    return int(event.get("series", {}).get("count") or event.get("count") or 1)


def _target(event: Object) -> str:
    about = event.get("involvedObject", {})
    kind, name = about.get("kind", "").lower(), about.get("name", "")
    return f"{kind}/{name}" if name else kind


def _source(event: Object) -> str:
    source = event.get("source", {})
    component = source.get("component") or event.get("reportingComponent", "")
    host = source.get("host") or event.get("reportingInstance", "")
    return f"{component}, {host}" if host else component


def _text(key: str) -> Column:
    return Column(key.capitalize(), "string", 0, lambda event, _now: str(event.get(key, "")).strip())


COLUMNS = (
    Column("Last Seen", "string", 0, lambda event, now: cells.since(_last(event), now)),
    _text("type"),
    _text("reason"),
    Column("Object", "string", 0, lambda event, _now: _target(event)),
    Column("Subobject", "string", 1, lambda event, _now: event.get("involvedObject", {}).get("fieldPath", "")),
    Column("Source", "string", 1, lambda event, _now: _source(event)),
    _text("message"),
    Column("First Seen", "string", 1, lambda event, now: cells.since(_first(event), now)),
    Column("Count", "string", 1, lambda event, _now: str(_count(event))),
    Column("Name", "string", 1, cells.NAME.cell),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStrategy:
    resource: ResourceType = resources.EVENTS
    short_names: tuple[str, ...] = ("ev",)
    columns: tuple[Column, ...] = COLUMNS
    subresources: tuple[str, ...] = ()

    def default(self, obj: Object) -> Object:
        event = conform(obj, self.resource, shapes.Event)
        event.setdefault("metadata", {})
        event.setdefault("involvedObject", {})
        return event

    def validate(self, obj: Object, old: Object | None) -> list[FieldError]:
        del old
        errors = metadata.errors(obj, names.dns_subdomain)
        about = (
            obj["involvedObject"].get("namespace") or "default"
        )  # an object without namespace is spoken of in default
        if about != obj["metadata"].get("namespace"):
            errors.append(fields.invalid("involvedObject.namespace", about, "does not match event.namespace"))
        return errors

    def admit(self, obj: Object, old: Object | None, claims: Claims) -> Admission:
        del old, claims
        return Admission(obj=obj, claims=frozenset())

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        about = obj.get("involvedObject", {})
        selectable = {f"involvedObject.{key}": about.get(key, "") for key in _SELECTABLE}
        return selectable | {
            "reason": obj.get("reason", ""),
            "type": obj.get("type", ""),
            "source": obj.get("source", {}).get("component", ""),
            "reportingComponent": obj.get("reportingComponent", ""),
        }

    def graceful_seconds(self, obj: Object, requested: int | None) -> int:
        del obj, requested
        return 0
