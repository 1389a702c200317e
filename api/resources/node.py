"""Nodes: machines that run pods, each with a podCIDR of every family of the cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from api.model import Admission, Claims, Column, Object
from api.resources import cells, fields, metadata, names, pod_cidrs, shapes
from api.resources.conform import conform
from api.resources.pod_cidrs import PodCIDRs
from ipam.address import Network
from kube import resources
from kube.errors import FieldError
from kube.resources import ResourceType

READY, UNKNOWN = "Ready", "Unknown"  # a condition, and its status when nobody has heard of the node for long
_ROLE_PREFIX = "node-role.kubernetes.io/"
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def is_ready(node: Object) -> bool:
    return _ready_condition(node) == "True"


def _ready_condition(node: Object) -> str | None:
    conditions = node.get("status", {}).get("conditions", [])
    return next((each.get("status", "") for each in conditions if each.get("type") == READY), None)


def _status(node: Object, _now: datetime) -> str:
    ready = _ready_condition(node)
    word = UNKNOWN if ready is None else "Ready" if ready == "True" else "NotReady"
    return f"{word},SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else word


def _roles(node: Object, _now: datetime) -> str:
    labels = node.get("metadata", {}).get("labels", {})
    roles = {key.removeprefix(_ROLE_PREFIX) for key in labels if key.startswith(_ROLE_PREFIX)}
    roles.add(labels.get("kubernetes.io/role", ""))
    return ",".join(sorted(role for role in roles if role)) or cells.NONE


def _address(node: Object, kind: str) -> str:
    addresses = node.get("status", {}).get("addresses", [])
    return next((each.get("address", "") for each in addresses if each.get("type") == kind), cells.NONE)


def _about(key: str) -> Column:
    titles = {
        "kubeletVersion": ("Version", 0),
        "osImage": ("OS-Image", 1),
        "kernelVersion": ("Kernel-Version", 1),
        "containerRuntimeVersion": ("Container-Runtime", 1),
    }
    title, priority = titles[key]
    missing = "" if key == "kubeletVersion" else cells.UNKNOWN
    return Column(
        title,
        "string",
        priority,
        lambda node, _now: node.get("status", {}).get("nodeInfo", {}).get(key) or missing,
    )


COLUMNS = (
    cells.NAME,
    Column("Status", "string", 0, _status),
    Column("Roles", "string", 0, _roles),
    cells.AGE,
    _about("kubeletVersion"),
    Column("Internal-IP", "string", 1, lambda node, _now: _address(node, "InternalIP")),
    Column("External-IP", "string", 1, lambda node, _now: _address(node, "ExternalIP")),
    _about("osImage"),
    _about("kernelVersion"),
    _about("containerRuntimeVersion"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStrategy:
    cluster_cidrs: tuple[Network, ...]
    resource: ResourceType = resources.NODES
    short_names: tuple[str, ...] = ("no",)
    columns: tuple[Column, ...] = COLUMNS
    subresources: tuple[str, ...] = ("status",)
    _pod_cidrs: PodCIDRs = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pod_cidrs", PodCIDRs(cluster_cidrs=self.cluster_cidrs))

    def default(self, obj: Object) -> Object:
        node = conform(obj, self.resource, shapes.Node)
        spec = node.setdefault("spec", {})
        pod_cidrs.mirror(spec)
        status = node.setdefault("status", {})
        if "capacity" in status:
            status.setdefault("allocatable", dict(status["capacity"]))
        return node

    def validate(self, obj: Object, old: Object | None) -> list[FieldError]:
        errors = metadata.errors(obj, names.dns_subdomain)
        errors += _taint_errors(obj["spec"].get("taints", []))
        return errors + self._pod_cidrs.errors(obj["spec"], old)

    def admit(self, obj: Object, old: Object | None, claims: Claims) -> Admission:
        held = self._pod_cidrs.assign(obj, old, claims)
        spec = obj["spec"] | {"podCIDR": held[0], "podCIDRs": held}
        return Admission(obj=obj | {"spec": spec}, claims=self._pod_cidrs.claims(held))

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        return {"spec.unschedulable": str(bool(obj.get("spec", {}).get("unschedulable"))).lower()}

    def graceful_seconds(self, obj: Object, requested: int | None) -> int:
        del obj, requested
        return 0


def _taint_errors(taints: list[Object]) -> list[FieldError]:
    errors = []
    for index, taint in enumerate(taints):
        path = f"spec.taints[{index}]"
        errors += names.qualified_name(f"{path}.key", taint.get("key", ""))
        errors += fields.one_of(f"{path}.effect", taint.get("effect", ""), _TAINT_EFFECTS)
    pairs = [(taint.get("key", ""), taint.get("effect", "")) for taint in taints]
    return errors + fields.unique((f"spec.taints[{index}]", pair) for index, pair in enumerate(pairs))
