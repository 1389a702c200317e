"""Services: a stable virtual address of each family, claimed with the Service and freed when it is deleted or needs none."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from api.model import Admission, Claims, Column, Object
from api.resources.conform import conform
from api.resources.service import allocation, columns, defaults, shape, transition, validation
from api.resources.service.cluster_ips import ClusterIPs
from ipam.address import Network
from kube import resources
from kube.errors import FieldError
from kube.resources import ResourceType


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStrategy:
    service_cidrs: tuple[Network, ...]
    resource: ResourceType = resources.SERVICES
    short_names: tuple[str, ...] = ("svc",)
    columns: tuple[Column, ...] = columns.COLUMNS
    subresources: tuple[str, ...] = ("status",)
    _cluster_ips: ClusterIPs = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cluster_ips", ClusterIPs(service_cidrs=self.service_cidrs))

    def default(self, obj: Object) -> Object:
        return defaults.fill(conform(obj, self.resource, shape.Service))

    def validate(self, obj: Object, old: Object | None) -> list[FieldError]:
        families = self._cluster_ips.families
        return validation.errors(transition.settle(obj, old, families), old, families)

    def admit(self, obj: Object, old: Object | None, claims: Claims) -> Admission:
        if old is None:
            obj = obj | {"status": {"loadBalancer": {}}}
        settled = transition.settle(obj, old, self._cluster_ips.families)
        return allocation.admit(settled, old, claims, self._cluster_ips)

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        spec = obj.get("spec", {})
        return {"spec.clusterIP": spec.get("clusterIP", ""), "spec.type": spec.get("type", "")}

    def graceful_seconds(self, obj: Object, requested: int | None) -> int:
        del obj, requested
        return 0
