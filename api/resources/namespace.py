"""Namespaces: a name for a set of objects, and the promise that deleting it deletes them all.

DELETE only stamps a namespace that still carries the `kubernetes` finalizer in its spec: the namespaces controller
empties it, takes the finalizer off, and then the namespace goes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from api.model import Admission, Claims, Column, Object
from api.resources import cells, metadata, names, shapes
from api.resources.conform import conform
from api.resources.lease import NODE_NAMESPACE
from kube import resources
from kube.errors import FieldError, Forbidden
from kube.resources import ResourceType

FINALIZER = "kubernetes"
SYSTEM = ("default", "kube-system", NODE_NAMESPACE)
NAME_LABEL = "kubernetes.io/metadata.name"


def phase(obj: Object) -> str:
    """Active, or Terminating from the moment DELETE has stamped it."""
    return "Terminating" if obj.get("metadata", {}).get("deletionTimestamp") else "Active"


def _status_cell(obj: Object, _now: datetime) -> str:
    return phase(obj)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceStrategy:
    resource: ResourceType = resources.NAMESPACES
    short_names: tuple[str, ...] = ("ns",)
    columns: tuple[Column, ...] = (cells.NAME, Column("Status", "string", 0, _status_cell), cells.AGE)
    subresources: tuple[str, ...] = ("status",)

    def default(self, obj: Object) -> Object:
        namespace = conform(obj, self.resource, shapes.Namespace)
        about = namespace.setdefault("metadata", {})
        if about.get("name"):
            about.setdefault("labels", {})[NAME_LABEL] = about["name"]
        namespace.setdefault("spec", {})
        namespace.setdefault("status", {})["phase"] = phase(namespace)
        return namespace

    def validate(self, obj: Object, old: Object | None) -> list[FieldError]:
        del old
        return metadata.errors(obj, names.dns_label)

    def admit(self, obj: Object, old: Object | None, claims: Claims) -> Admission:
        del claims
        if old is None:
            obj = obj | {"spec": {"finalizers": [FINALIZER]}}
        elif phase(old) == "Active":  # a finalizer protects the content: only who empties the namespace takes it off
            obj = obj | {"spec": old["spec"]}
        return Admission(obj=obj, claims=frozenset())

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        return {"status.phase": phase(obj)}

    def graceful_seconds(self, obj: Object, requested: int | None) -> int:
        del requested  # not even --grace-period=0 --force leaves objects behind without their namespace
        name = obj["metadata"]["name"]
        if name in SYSTEM:
            raise Forbidden(f'namespaces "{name}" is forbidden: this namespace may not be deleted')
        return 0
