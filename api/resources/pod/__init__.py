"""Pods: what to run where. The server fills in defaults, keeps the spec from changing, and lets a bound pod end gracefully."""

from collections.abc import Mapping
from dataclasses import dataclass

from api.model import Admission, Claims, Column, Object
from api.resources.conform import conform
from api.resources.pod import columns, defaults, shape, validation
from kube import resources
from kube.errors import FieldError
from kube.resources import ResourceType

_SELECTABLE = ("restartPolicy", "schedulerName", "nodeName", "serviceAccountName")


def is_finished(pod: Object) -> bool:
    """The pod has run to its end and will not run again."""
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStrategy:
    resource: ResourceType = resources.PODS
    short_names: tuple[str, ...] = ("po",)
    columns: tuple[Column, ...] = columns.COLUMNS
    subresources: tuple[str, ...] = ("status",)

    def default(self, obj: Object) -> Object:
        return defaults.fill(conform(obj, self.resource, shape.Pod))

    def validate(self, obj: Object, old: Object | None) -> list[FieldError]:
        return validation.errors(obj, old)

    def admit(self, obj: Object, old: Object | None, claims: Claims) -> Admission:
        del claims
        if old is None:
            obj = obj | {"status": {"phase": "Pending", "qosClass": defaults.qos_class(obj["spec"])}}
        return Admission(obj=obj, claims=frozenset())

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        spec, status = obj.get("spec", {}), obj.get("status", {})
        selectable = {f"spec.{key}": spec.get(key, "") for key in _SELECTABLE}
        return selectable | {
            "spec.hostNetwork": "true" if spec.get("hostNetwork") else "false",
            "status.phase": status.get("phase", ""),
            "status.podIP": status.get("podIP", ""),
            "status.nominatedNodeName": status.get("nominatedNodeName", ""),
        }

    def graceful_seconds(self, obj: Object, requested: int | None) -> int:
        spec = obj.get("spec", {})
        if not spec.get("nodeName") or is_finished(obj):  # nothing runs that would need time to stop
            return 0
        seconds = spec.get("terminationGracePeriodSeconds", 0) if requested is None else requested
        return 1 if seconds < 0 else int(seconds)
