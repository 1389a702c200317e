"""Services: a stable virtual address, claimed when the Service is created and freed when it is deleted or needs none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from api.model import Admission, Claims, Column, Object
from api.resources import shapes
from api.resources.conform import conform
from api.resources.service import columns, defaults, transition, validation
from api.resources.service.allocation import Allocator
from kube import resources
from kube.errors import FieldError
from kube.resources import ResourceType


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStrategy:
    service_cidr: IPv4Network
    resource: ResourceType = resources.SERVICES
    short_names: tuple[str, ...] = ("svc",)
    columns: tuple[Column, ...] = columns.COLUMNS
    subresources: tuple[str, ...] = ("status",)
    _allocator: Allocator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_allocator", Allocator.of(self.service_cidr))

    def default(self, obj: Object) -> Object:
        return defaults.fill(conform(obj, self.resource, shapes.Service))

    def validate(self, obj: Object, old: Object | None) -> list[FieldError]:
        return validation.errors(transition.settle(obj, old), old)

    def admit(self, obj: Object, old: Object | None, claims: Claims) -> Admission:
        if old is None:
            obj = obj | {"status": {"loadBalancer": {}}}
        return self._allocator.admit(transition.settle(obj, old), old, claims)

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        spec = obj.get("spec", {})
        return {"spec.clusterIP": spec.get("clusterIP", ""), "spec.type": spec.get("type", "")}

    def graceful_seconds(self, obj: Object, requested: int | None) -> int:
        del obj, requested
        return 0
