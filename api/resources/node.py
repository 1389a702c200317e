"""Nodes: each owns a podCIDR cut from the cluster CIDR, claimed when the Node is created and freed when it goes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network

from api.model import Admission, Claim, Claims, Column, Object
from api.resources import cells, fields, metadata, names, shapes
from api.resources.conform import conform
from ipam import cidrs
from ipam.pool import PoolError
from kube import resources
from kube.errors import FieldError, Invalid
from kube.resources import ResourceType

POD_CIDRS = "podcidrs"
POD_CIDR_PREFIX = 24
LARGEST, SMALLEST = 16, 30  # what a user may ask for: a /30 still holds a gateway and a pod

_ROLE_PREFIX = "node-role.kubernetes.io/"
_ONCE = 'node updates may not change podCIDR except from "" to valid'
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def is_ready(node: Object) -> bool:
    return _ready_condition(node) == "True"


def _ready_condition(node: Object) -> str | None:
    conditions = node.get("status", {}).get("conditions", [])
    return next((each.get("status", "") for each in conditions if each.get("type") == "Ready"), None)


def _status(node: Object, _now: datetime) -> str:
    ready = _ready_condition(node)
    word = "Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"
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
    cluster_cidr: IPv4Network
    resource: ResourceType = resources.NODES
    short_names: tuple[str, ...] = ("no",)
    columns: tuple[Column, ...] = COLUMNS
    subresources: tuple[str, ...] = ("status",)

    def default(self, obj: Object) -> Object:
        node = conform(obj, self.resource, shapes.Node)
        spec = node.setdefault("spec", {})
        _mirror_pod_cidr(spec)
        status = node.setdefault("status", {})
        if "capacity" in status:
            status.setdefault("allocatable", dict(status["capacity"]))
        return node

    def validate(self, obj: Object, old: Object | None) -> list[FieldError]:
        errors = metadata.errors(obj, names.dns_subdomain)
        errors += _taint_errors(obj["spec"].get("taints", []))
        held = _pod_cidr(old)
        return errors + (_change_errors(held, obj["spec"]) if held else self._pod_cidr_errors(obj["spec"]))

    def _pod_cidr_errors(self, spec: Object) -> list[FieldError]:
        cidrs_given = spec.get("podCIDRs", [])
        if not cidrs_given:
            return []
        if len(cidrs_given) > 1:
            return [fields.invalid("spec.podCIDRs", cidrs_given, "may hold one CIDR: the cluster CIDR has one family")]
        if spec.get("podCIDR") != cidrs_given[0]:
            return [fields.invalid("spec.podCIDRs[0]", cidrs_given[0], "must match `podCIDR`")]
        network, errors = fields.cidr("spec.podCIDR", cidrs_given[0])
        return errors if network is None else self._size_errors(network)

    def _size_errors(self, network: IPv4Network | IPv6Network) -> list[FieldError]:
        if not (isinstance(network, IPv4Network) and network.subnet_of(self.cluster_cidr)):
            return [
                fields.invalid("spec.podCIDR", str(network), f"must lie inside the cluster CIDR {self.cluster_cidr}")
            ]
        if LARGEST <= network.prefixlen <= SMALLEST:
            return []
        return [fields.invalid("spec.podCIDR", str(network), f"must be between a /{LARGEST} and a /{SMALLEST}")]

    def admit(self, obj: Object, old: Object | None, claims: Claims) -> Admission:
        cidr = _pod_cidr(old) or self._assign(obj, claims)
        spec = obj["spec"] | {"podCIDR": cidr, "podCIDRs": [cidr]}
        held = (Claim(pool=POD_CIDRS, value=str(block)) for block in self._blocks(IPv4Network(cidr)))
        return Admission(obj=obj | {"spec": spec}, claims=frozenset(held))

    @property
    def _prefix(self) -> int:
        return max(POD_CIDR_PREFIX, self.cluster_cidr.prefixlen)

    def _blocks(self, network: IPv4Network) -> Iterable[IPv4Network]:
        """What a podCIDR claims. Claims are compared as text, so all are of one size and overlap shows as equality."""
        if network.prefixlen < self._prefix:
            return network.subnets(new_prefix=self._prefix)
        return (network.supernet(new_prefix=self._prefix),)

    def _assign(self, obj: Object, claims: Claims) -> str:
        taken = claims.taken(POD_CIDRS)
        wanted = str(obj["spec"].get("podCIDR", ""))
        if wanted:
            overlapping = next((str(block) for block in self._blocks(IPv4Network(wanted)) if str(block) in taken), None)
            if overlapping is not None:
                raise self._refused(obj, wanted, f"overlaps {overlapping}, which another node holds")
            return wanted
        try:
            return str(cidrs.assign_subnet(self.cluster_cidr, self._prefix, map(IPv4Network, taken)))
        except PoolError:
            raise self._refused(obj, "", self._exhausted(len(taken))) from None

    def _exhausted(self, count: int) -> str:
        return (
            f"the cluster CIDR {self.cluster_cidr} is exhausted: all of its {count} /{self._prefix} blocks are podCIDRs of"
            " other nodes; delete a Node that is gone, or start podwire-api with a larger --cluster-cidr"
        )

    def _refused(self, obj: Object, value: str, why: str) -> Invalid:
        error = fields.invalid("spec.podCIDR", value, why)
        return Invalid.of(self.resource, obj["metadata"].get("name", ""), [error])

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        return {"spec.unschedulable": str(bool(obj.get("spec", {}).get("unschedulable"))).lower()}

    def graceful_seconds(self, obj: Object, requested: int | None) -> int:
        del obj, requested
        return 0


def _mirror_pod_cidr(spec: Object) -> None:
    """Fill podCIDR and podCIDRs[0], two names of one thing, from whichever was given."""
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs") and not spec.get("podCIDR"):
        spec["podCIDR"] = spec["podCIDRs"][0]


def _pod_cidr(node: Object | None) -> str:
    return str((node or {}).get("spec", {}).get("podCIDR", ""))


def _change_errors(held: str, spec: Object) -> list[FieldError]:
    wanted = spec.get("podCIDRs", [held])  # an update that leaves it out keeps it
    return [] if wanted == [held] == [spec.get("podCIDR", held)] else [fields.forbidden("spec.podCIDR", _ONCE)]


def _taint_errors(taints: list[Object]) -> list[FieldError]:
    errors = []
    for index, taint in enumerate(taints):
        path = f"spec.taints[{index}]"
        errors += names.qualified_name(f"{path}.key", taint.get("key", ""))
        errors += fields.one_of(f"{path}.effect", taint.get("effect", ""), _TAINT_EFFECTS)
    pairs = [(taint.get("key", ""), taint.get("effect", "")) for taint in taints]
    return errors + fields.unique((f"spec.taints[{index}]", pair) for index, pair in enumerate(pairs))
