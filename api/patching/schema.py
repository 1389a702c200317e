"""Which lists are maps in disguise: the merge keys that Kubernetes' Go types carry in their tags.

A list that is not named here is atomic: a patch replaces it whole. Strategic merge patches know one key a list
(`patchMergeKey`), server-side apply one or more (`x-kubernetes-list-map-keys`), and they are not always the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListType:
    """How the items of one list are told apart: by a member (`merge_key`) and by members (`map_keys`), or as a set."""

    merge_key: str = ""
    map_keys: tuple[str, ...] = ()
    is_set: bool = False


def _by(*map_keys: str, merge_key: str = "") -> ListType:
    return ListType(merge_key=merge_key or map_keys[0], map_keys=map_keys)


_SET: Final = ListType(is_set=True)
_CONTAINER: Final = {
    "env": _by("name"),
    "ports": _by("containerPort", "protocol"),
    "volumeDevices": _by("devicePath"),
    "volumeMounts": _by("mountPath"),
}
_EVERY_KIND: Final = {
    "metadata.finalizers": _SET,
    "metadata.ownerReferences": _by("uid"),
    "status.conditions": _by("type"),
}
_POD: Final = {
    "spec.containers": _by("name"),
    "spec.initContainers": _by("name"),
    "spec.ephemeralContainers": _by("name"),
    "spec.volumes": _by("name"),
    "spec.imagePullSecrets": _by("name"),
    "spec.hostAliases": _by("ip"),
    "spec.schedulingGates": _by("name"),
    "spec.resourceClaims": _by("name"),
    "spec.topologySpreadConstraints": _by("topologyKey", "whenUnsatisfiable"),
    "status.podIPs": _by("ip"),
    "status.hostIPs": _by("ip"),
    **{
        f"spec.{containers}.{member}": list_type
        for containers in ("containers", "initContainers", "ephemeralContainers")
        for member, list_type in _CONTAINER.items()
    },
}
_LISTS: Final[Mapping[str, Mapping[str, ListType]]] = MappingProxyType(
    {
        "Pod": _EVERY_KIND | _POD,
        "Service": _EVERY_KIND | {"spec.ports": _by("port", "protocol")},
        "Node": _EVERY_KIND | {"spec.podCIDRs": _SET, "status.addresses": _by("type", "address", merge_key="type")},
    }
)
_ATOMIC_MAPS: Final = frozenset({("Service", "spec.selector"), ("Pod", "spec.nodeSelector")})
# Members that identify an item even when a writer leaves them to the server's default.
_IDENTITY_DEFAULTS: Final = MappingProxyType({"protocol": "TCP"})


def list_type(kind: str, path: Path) -> ListType | None:
    """How a list merges; None when it is replaced whole. The path has no indices: ("spec", "containers", "env")."""
    return _LISTS.get(kind, _EVERY_KIND).get(".".join(path))


def is_atomic_map(kind: str, path: Path) -> bool:
    """Whether server-side apply replaces this map whole."""
    return (kind, ".".join(path)) in _ATOMIC_MAPS


def identity(item: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[Any, ...]:
    """What tells an item from its neighbours; None for members it lacks."""
    return tuple(item.get(key, _IDENTITY_DEFAULTS.get(key)) for key in keys)
