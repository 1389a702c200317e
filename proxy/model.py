"""What the proxy knows of Services: the few facts of a Service and its EndpointSlices that decide where packets go.

Everything here is a value made from API objects by a pure function. A Service that cannot be served at all is an
`InvalidService`, naming field and value; one bad endpoint is left out and costs nobody else anything.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

import msgspec

from kube import objects
from kube.objects import Family, Protocol

Address = IPv4Address | IPv6Address

__all__ = [
    "Address",
    "Endpoint",
    "Family",
    "InvalidService",
    "Protocol",
    "ServiceName",
    "ServicePort",
    "ServicePortName",
    "Target",
    "endpoints",
    "service_ports",
    "slice_owner",
]

SERVICE_PROXY_NAME: Final = "service.kubernetes.io/service-proxy-name"  # another proxy's Service, whatever the value
HEADLESS: Final = "service.kubernetes.io/headless"
SERVICE_OF_SLICE: Final = "kubernetes.io/service-name"
DEFAULT_AFFINITY_SECONDS: Final = 10800  # core/v1 DefaultClientIPServiceAffinitySeconds
MAX_AFFINITY_SECONDS: Final = 86400  # core/v1 MaxClientIPServiceAffinitySeconds
_VERSIONS: Final[dict[Family, int]] = {"IPv4": 4, "IPv6": 6}
_PARSERS: Final[dict[int, Callable[[str], Address]]] = {4: IPv4Address, 6: IPv6Address}


class ServiceName(NamedTuple):
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ServicePortName(NamedTuple):
    """Names one port of a Service, as EndpointSlices refer to it."""

    service: ServiceName
    port: str
    protocol: Protocol

    def __str__(self) -> str:
        return f"{self.service}:{self.port}" if self.port else str(self.service)


class Target(NamedTuple):
    """Where a connection goes. The address is kept packed: hashing an ipaddress object takes ten times as long."""

    packed: bytes
    port: int

    @property
    def address(self) -> Address:
        return ipaddress.ip_address(self.packed)

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


class ServicePort(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One port of a Service. `affinity_seconds` is None without session affinity."""

    name: ServicePortName
    cluster_ip: Address
    port: int
    affinity_seconds: int | None = None
    local_only: bool = False


class Endpoint(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A target and what EndpointSlices say about it. `node` is None when they do not say where it runs."""

    target: Target
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str | None = None


class InvalidService(ValueError):
    """A Service the API should never have let in. The proxy leaves it alone until it changes."""

    def __init__(self, service: ServiceName, field: str, value: object, reason: str) -> None:
        super().__init__(service, field, value, reason)
        self.service = service
        self.field = field
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        return f"Service {self.service}: {self.field} {self.value!r}: {self.reason}"


def service_ports(service: objects.Service, family: Family) -> tuple[ServicePort, ...]:
    """The ports to serve in this address family: none for a headless, ExternalName or another proxy's Service."""
    name = ServiceName(service.metadata.namespace, service.metadata.name)
    cluster_ip = _cluster_ip(name, service, family)
    if cluster_ip is None:
        return ()
    ports = tuple(_service_port(name, service.spec, index, cluster_ip) for index in range(len(service.spec.ports)))
    _check_distinct(name, ports)
    return ports


def _cluster_ip(name: ServiceName, service: objects.Service, family: Family) -> Address | None:
    spec = service.spec
    if SERVICE_PROXY_NAME in service.metadata.labels or spec.type == "ExternalName":
        return None
    for text in spec.cluster_ips or (spec.cluster_ip,):
        if text in {"", "None"}:
            continue
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise InvalidService(name, "spec.clusterIP", text, "must be an IP address") from None
        if address.version == _VERSIONS[family]:
            return address
    return None


def _service_port(name: ServiceName, spec: objects.ServiceSpec, index: int, cluster_ip: Address) -> ServicePort:
    port = spec.ports[index]
    if not 0 < port.port < 65536:
        raise InvalidService(name, f"spec.ports[{index}].port", port.port, "must be between 1 and 65535")
    return ServicePort(
        name=ServicePortName(name, port.name, port.protocol),
        cluster_ip=cluster_ip,
        port=port.port,
        affinity_seconds=_affinity_seconds(name, spec),
        local_only=spec.internal_traffic_policy == "Local",
    )


def _affinity_seconds(name: ServiceName, spec: objects.ServiceSpec) -> int | None:
    if spec.session_affinity != "ClientIP":
        return None
    client_ip = spec.session_affinity_config.client_ip if spec.session_affinity_config else None
    seconds = client_ip.timeout_seconds if client_ip else None
    if seconds is None:
        return DEFAULT_AFFINITY_SECONDS
    if not 0 < seconds <= MAX_AFFINITY_SECONDS:
        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        raise InvalidService(name, field, seconds, f"must be between 1 and {MAX_AFFINITY_SECONDS}")
    return seconds


def _check_distinct(name: ServiceName, ports: Sequence[ServicePort]) -> None:
    fronts: set[tuple[str, int]] = set()
    names: set[ServicePortName] = set()
    for index, port in enumerate(ports):
        front = (port.name.protocol, port.port)
        if front in fronts:
            raise InvalidService(name, f"spec.ports[{index}].port", port.port, f"stands twice for {front[0]}")
        if port.name in names:
            raise InvalidService(name, f"spec.ports[{index}].name", port.name.port, "stands twice")
        fronts.add(front)
        names.add(port.name)


def slice_owner(endpoint_slice: objects.EndpointSlice) -> ServiceName | None:
    """The Service a slice belongs to; None for a headless Service's slice or one without an owner."""
    labels = endpoint_slice.metadata.labels
    owner = labels.get(SERVICE_OF_SLICE)
    return ServiceName(endpoint_slice.metadata.namespace, owner) if owner and HEADLESS not in labels else None


def endpoints(slices: Iterable[objects.EndpointSlice], port: ServicePort) -> tuple[Endpoint, ...]:
    """The endpoints of one Service port, sorted by target, each target once.

    While slices are rewritten, or when a pod's address is used again, a target stands in two of them: the better
    entry wins, whatever the order.
    """
    best: dict[Target, Endpoint] = {}
    for endpoint_slice in slices:
        for endpoint in _slice_endpoints(endpoint_slice, port):
            known = best.get(endpoint.target)
            if known is None or _preference(endpoint) > _preference(known):
                best[endpoint.target] = endpoint
    return tuple(best[target] for target in sorted(best))


def _preference(endpoint: Endpoint) -> tuple[bool, bool, bool, str]:
    return not endpoint.terminating, endpoint.ready, endpoint.serving, endpoint.node or ""


def _slice_endpoints(endpoint_slice: objects.EndpointSlice, port: ServicePort) -> Iterator[Endpoint]:
    numbers = [number for entry in endpoint_slice.ports or () if (number := _target_port(entry, port))]
    for number in numbers:
        for endpoint in endpoint_slice.endpoints or ():
            address = _address(endpoint, port.cluster_ip.version)
            if address is not None:
                yield _endpoint(endpoint, Target(address.packed, number))


def _target_port(entry: objects.EndpointPort, port: ServicePort) -> int | None:
    # discovery/v1: a port without name or number is not to be used by consumers like this one.
    if entry.name != port.name.port or entry.protocol != port.name.protocol or entry.port is None:
        return None
    return entry.port if 0 < entry.port < 65536 else None


def _address(endpoint: objects.Endpoint, version: int) -> Address | None:
    # discovery/v1: addresses[0] stands for the endpoint, the others are the same pod's.
    try:
        address = _PARSERS[version](endpoint.addresses[0])
    except (IndexError, ValueError):
        return None
    return address


def _endpoint(endpoint: objects.Endpoint, target: Target) -> Endpoint:
    conditions = endpoint.conditions
    return Endpoint(
        target=target,
        ready=conditions.ready is not False,
        serving=conditions.serving is not False,
        terminating=conditions.terminating is True,
        node=endpoint.node_name or None,
    )
