"""The kinds of objects podwire speaks of, and where the API serves them.

Both sides build every URL here, so a client cannot ask for a path that the server spells differently.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

# The API refuses these as names because they change the meaning of a path (k8s.io/apimachinery path.IsValidPathSegmentName).
_NOT_A_SEGMENT: Final = frozenset({"", ".", ".."})


class InvalidPathSegment(ValueError):
    """A namespace, name or subresource that would point a request at another path."""

    def __init__(self, field: str, value: str) -> None:
        super().__init__(field, value)
        self.field = field
        self.value = value

    def __str__(self) -> str:
        return (
            f"{self.field} {self.value!r} cannot stand in a path: it must not be empty, '.', '..' or contain '/' or '%'"
        )


def _segment(field: str, value: str) -> str:
    if value in _NOT_A_SEGMENT or "/" in value or "%" in value:
        raise InvalidPathSegment(field, value)
    return quote(value, safe="")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceType:
    """One kind of object: its names, its API group and whether it lives in a namespace."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """What objects of this kind carry as apiVersion: `v1`, `discovery.k8s.io/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The path of the group and version: `/api/v1`, `/apis/discovery.k8s.io/v1`."""
        return f"/{'apis' if self.group else 'api'}/{self.api_version}"

    def path(self, namespace: str | None = None, name: str | None = None, *, subresource: str | None = None) -> str:
        """Return the path of the collection, of one object, or of one of its subresources.

        Without a namespace, a namespaced kind yields the collection over all namespaces.
        """
        parts = [self.root]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", _segment("namespace", namespace)]
        parts.append(self.plural)
        if name is not None:
            parts.append(_segment("name", name))
        if subresource is not None:
            parts.append(_segment("subresource", subresource))
        return "/".join(parts)


NAMESPACES: Final = ResourceType(
    group="", version="v1", plural="namespaces", singular="namespace", kind="Namespace", namespaced=False
)
NODES: Final = ResourceType(group="", version="v1", plural="nodes", singular="node", kind="Node", namespaced=False)
PODS: Final = ResourceType(group="", version="v1", plural="pods", singular="pod", kind="Pod", namespaced=True)
SERVICES: Final = ResourceType(
    group="", version="v1", plural="services", singular="service", kind="Service", namespaced=True
)
ENDPOINT_SLICES: Final = ResourceType(
    group="discovery.k8s.io",
    version="v1",
    plural="endpointslices",
    singular="endpointslice",
    kind="EndpointSlice",
    namespaced=True,
)
SERVICE_CIDRS: Final = ResourceType(
    group="networking.k8s.io",
    version="v1",
    plural="servicecidrs",
    singular="servicecidr",
    kind="ServiceCIDR",
    namespaced=False,
)
LEASES: Final = ResourceType(
    group="coordination.k8s.io", version="v1", plural="leases", singular="lease", kind="Lease", namespaced=True
)
EVENTS: Final = ResourceType(group="", version="v1", plural="events", singular="event", kind="Event", namespaced=True)

BY_PLURAL: Final[Mapping[str, ResourceType]] = MappingProxyType(
    {
        resource.plural: resource
        for resource in (NAMESPACES, NODES, PODS, SERVICES, ENDPOINT_SLICES, SERVICE_CIDRS, LEASES, EVENTS)
    }
)
