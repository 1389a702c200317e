"""Leases: somebody says that it is still there, by writing the time again and again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from api.model import Admission, Claims, Column, Object
from api.resources import cells, fields, metadata, names, shapes
from api.resources.conform import conform
from kube import resources
from kube.errors import FieldError
from kube.resources import ResourceType

NODE_NAMESPACE = "kube-node-lease"
"""Where a node's own Lease is, under the node's name."""


def _holder(lease: Object, _now: datetime) -> str:
    return str(lease.get("spec", {}).get("holderIdentity", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseStrategy:
    resource: ResourceType = resources.LEASES
    short_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (cells.NAME, Column("Holder", "string", 0, _holder), cells.AGE)
    subresources: tuple[str, ...] = ()

    def default(self, obj: Object) -> Object:
        lease = conform(obj, self.resource, shapes.Lease)
        lease.setdefault("metadata", {})
        lease.setdefault("spec", {})
        return lease

    def validate(self, obj: Object, old: Object | None) -> list[FieldError]:
        del old
        errors, spec = metadata.errors(obj, names.dns_subdomain), obj["spec"]
        seconds = spec.get("leaseDurationSeconds", 1)
        if seconds <= 0:
            errors.append(fields.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
        return errors + fields.not_negative("spec.leaseTransitions", spec.get("leaseTransitions", 0))

    def admit(self, obj: Object, old: Object | None, claims: Claims) -> Admission:
        del old, claims
        return Admission(obj=obj, claims=frozenset())

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        del obj
        return {}

    def graceful_seconds(self, obj: Object, requested: int | None) -> int:
        del obj, requested
        return 0
