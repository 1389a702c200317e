"""What the proxy knows of Services: the few facts of a Service and its EndpointSlices that decide where packets go.

Everything here is a value made from API objects by a pure function. A Service that cannot be served at all is an
`InvalidService`, naming field and value; one bad endpoint is left out and costs nobody else anything.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, NamedTuple

import msgspec

from kube import objects
from kube.objects import Family, Protocol
from proxy import addresses

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

__all__ = [
    "Address",
    "Endpoint",
    "Family",
    "InvalidService",
    "Network",
    "Protocol",
    "Scope",
    "ServiceName",
    "ServicePort",
    "ServicePortName",
    "Target",
    "endpoints",
    "service_ports",
    "slice_owner",
]

SERVICE_PROXY_NAME: Final = "service.kubernetes.io/service-proxy-name"  # another proxy's Service, whatever the value
WEIGHTS: Final = "podwire.dev/weights"  # of a slice: a JSON object, address to whole number
MAX_WEIGHT: Final = 100
HEADLESS: Final = "service.kubernetes.io/headless"
SERVICE_OF_SLICE: Final = "kubernetes.io/service-name"
DEFAULT_AFFINITY_SECONDS: Final = 10800  # core/v1 DefaultClientIPServiceAffinitySeconds
MAX_AFFINITY_SECONDS: Final = 86400  # core/v1 MaxClientIPServiceAffinitySeconds
VERSIONS: Final[dict[Family, int]] = {"IPv4": 4, "IPv6": 6}
VERSIONS_OF_SLICES: Final[dict[str, int]] = {"IPv4": 4, "IPv6": 6}  # by addressType; FQDN has none
ADDRESS_RULE: Final = "must be the address of a host: not unspecified, loopback, link-local, multicast or mapped"
_CIDR_LENGTH: Final = re.compile(r"/[0-9]+$", re.ASCII)


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


class Target(msgspec.Struct, frozen=True, order=True, gc=False):
    """Where a connection goes. The address is kept packed: hashing an ipaddress object takes ten times as long."""

    packed: bytes
    port: int

    @property
    def address(self) -> Address:
        return ipaddress.ip_address(self.packed)

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


class Scope(StrEnum):
    """Whose endpoints: the whole cluster's, or this node's only."""

    CLUSTER = "cluster"
    LOCAL = "local"


class ServicePort(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One port of a Service. `affinity_seconds` is None without session affinity.

    `local_only` is internalTrafficPolicy Local, `external_local` the external one where it applies. `source_ranges` None
    lets everybody in; an empty tuple nobody of this family.
    """

    name: ServicePortName
    cluster_ip: Address
    port: int
    affinity_seconds: int | None = None
    local_only: bool = False
    external_local: bool = False
    external_ips: tuple[Address, ...] = ()
    load_balancer_ips: tuple[Address, ...] = ()
    source_ranges: tuple[Network, ...] | None = None
    node_port: int = 0

    @property
    def external_addresses(self) -> tuple[Address, ...]:
        """Every address but the cluster IP, each once."""
        return tuple(dict.fromkeys((*self.external_ips, *self.load_balancer_ips)))

    @property
    def is_external(self) -> bool:
        return bool(self.external_ips or self.load_balancer_ips or self.node_port)

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Which sets of endpoints some client of this port may need."""
        cluster = not self.local_only or self.is_external
        local = self.local_only or self.external_local
        return (Scope.CLUSTER,) * cluster + (Scope.LOCAL,) * local


class Endpoint(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A target and what EndpointSlices say about it. `node` is None when they do not say where it runs."""

    target: Target
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str | None = None
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()
    weight: int = 1


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
    text = spelled_cluster_ip(service, family)
    if text is None:
        return ()
    name = ServiceName(service.metadata.namespace, service.metadata.name)
    cluster_ip = _way_in(name, "spec.clusterIP", text)
    shared = _shared(name, service, cluster_ip)
    ports = tuple(_service_port(name, service.spec, index, shared) for index in range(len(service.spec.ports)))
    if len(ports) > 1:
        _check_distinct(name, ports)
    return ports


def spelled_cluster_ip(service: objects.Service, family: Family) -> str | None:
    """The cluster IP to serve in this address family as it is spelled, or one that cannot be read. None: there is none."""
    if service.spec.type == "ExternalName" or SERVICE_PROXY_NAME in service.metadata.labels:
        return None
    for text in service.spec.cluster_ips or (service.spec.cluster_ip,):
        if text not in {"", "None"}:
            spelled = 6 if ":" in text else 4
            if spelled == VERSIONS[family] or addresses.packed_address(text, spelled) is None:
                return text
    return None


def _way_in(name: ServiceName, field: str, text: str) -> Address:
    """An address that clients may send to."""
    try:
        address = addresses.parse(text)
    except ValueError:
        raise InvalidService(name, field, text, "must be an IP address") from None
    if not addresses.is_of_a_host(address.packed):
        raise InvalidService(name, field, text, ADDRESS_RULE)
    return address


def _shared(name: ServiceName, service: objects.Service, cluster_ip: Address) -> dict[str, Any]:
    """What all ports of a Service have in common."""
    spec, version = service.spec, cluster_ip.version
    if not 0 <= spec.health_check_node_port < 65536:
        field = "spec.healthCheckNodePort"
        raise InvalidService(name, field, spec.health_check_node_port, "must be between 1 and 65535")
    external_ips = _addresses(name, "spec.externalIPs", spec.external_ips, version)
    # A load balancer in mode Proxy delivers to node ports or pods, never to its own address.
    ingress = [entry.ip for entry in service.status.load_balancer.ingress if entry.ip and entry.ip_mode == "VIP"]
    has_external_policy = spec.type in {"NodePort", "LoadBalancer"} or (spec.type == "ClusterIP" and spec.external_ips)
    return {
        "cluster_ip": cluster_ip,
        "affinity_seconds": _affinity_seconds(name, spec),
        "local_only": spec.internal_traffic_policy == "Local",
        "external_local": bool(has_external_policy) and spec.external_traffic_policy == "Local",
        "external_ips": external_ips,
        "load_balancer_ips": _addresses(name, "status.loadBalancer.ingress", ingress, version),
        "source_ranges": _source_ranges(name, spec, version),
    }


def _service_port(name: ServiceName, spec: objects.ServiceSpec, index: int, shared: dict[str, Any]) -> ServicePort:
    port = spec.ports[index]
    if not 0 < port.port < 65536:
        raise InvalidService(name, f"spec.ports[{index}].port", port.port, "must be between 1 and 65535")
    if not 0 <= port.node_port < 65536:
        raise InvalidService(name, f"spec.ports[{index}].nodePort", port.node_port, "must be between 1 and 65535")
    return ServicePort(
        name=ServicePortName(name, port.name, port.protocol), port=port.port, node_port=port.node_port, **shared
    )


def _addresses(name: ServiceName, field: str, texts: Iterable[str], version: int) -> tuple[Address, ...]:
    found: list[Address] = []
    for text in texts:
        address = _way_in(name, field, text)
        if address.version == version:
            found.append(address)
    return tuple(found)


def _source_ranges(name: ServiceName, spec: objects.ServiceSpec, version: int) -> tuple[Network, ...] | None:
    """The ranges of this family. None were given, or one is everybody: None. Only others' were given: nobody."""
    networks: list[Network] = []
    for text in spec.load_balancer_source_ranges:
        # What Python reads beyond CIDRs (no length, a netmask) nobody else reads in the same way.
        if not _CIDR_LENGTH.search(text.strip()):
            raise InvalidService(name, "spec.loadBalancerSourceRanges", text, "must be a CIDR")
        try:
            networks.append(ipaddress.ip_network(text.strip(), strict=False))
        except ValueError:
            raise InvalidService(name, "spec.loadBalancerSourceRanges", text, "must be a CIDR") from None
    own = [network for network in networks if network.version == version]
    if not networks or any(network.prefixlen == 0 for network in own):
        return None
    return collapsed(own)


def collapsed(networks: Iterable[Network]) -> tuple[Network, ...]:
    """The same addresses without a range in another: the kernel's sets of intervals refuse that."""
    given = tuple(networks)
    four = ipaddress.collapse_addresses(network for network in given if isinstance(network, IPv4Network))
    six = ipaddress.collapse_addresses(network for network in given if isinstance(network, IPv6Network))
    return (*four, *six)


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
    fronts: set[tuple[str, str, int]] = set()
    names: set[ServicePortName] = set()
    for index, port in enumerate(ports):
        for field, number in (("port", port.port), ("nodePort", port.node_port)):
            front = (field, port.name.protocol, number)
            if number and front in fronts:
                raise InvalidService(name, f"spec.ports[{index}].{field}", number, f"stands twice for {front[1]}")
            fronts.add(front)
        if port.name in names:
            raise InvalidService(name, f"spec.ports[{index}].name", port.name.port, "stands twice")
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
    version = port.cluster_ip.version
    for endpoint_slice in slices:
        if VERSIONS_OF_SLICES.get(endpoint_slice.address_type) == version:
            for number in target_ports(endpoint_slice, port.name):
                _add_endpoints(best, endpoint_slice, version, number)
    return tuple([best[target] for target in sorted(best)])


def _preference(endpoint: Endpoint) -> tuple[bool, bool, bool, str]:
    return not endpoint.terminating, endpoint.ready, endpoint.serving, endpoint.node or ""


def _add_endpoints(
    best: dict[Target, Endpoint], endpoint_slice: objects.EndpointSlice, version: int, number: int
) -> None:
    annotations = endpoint_slice.metadata.annotations
    weighing = weights(annotations.get(WEIGHTS, "")) if annotations else {}
    for entry in endpoint_slice.endpoints or ():
        # discovery/v1: addresses[0] stands for the endpoint.
        packed = addresses.packed_address(entry.addresses[0], version) if entry.addresses else None
        if packed is not None:
            target = Target(packed, number)
            endpoint = _endpoint(entry, target, weighing.get(entry.addresses[0], 1) if weighing else 1)
            known = best.get(target)
            if known is None or _preference(endpoint) > _preference(known):
                best[target] = endpoint


def weights(text: str) -> Mapping[str, int]:
    """What is no weight is none: its endpoint weighs 1, and costs nobody else anything."""
    try:
        given = msgspec.json.decode(text, type=dict[str, Any]) if text else {}
    except (msgspec.MsgspecError, RecursionError):
        return {}
    return {address: weight for address, weight in given.items() if type(weight) is int and 0 <= weight <= MAX_WEIGHT}


def target_ports(endpoint_slice: objects.EndpointSlice, port: ServicePortName) -> list[int]:
    """The numbers at which a slice's endpoints serve this port."""
    # discovery/v1: a port without name or number is not to be used by consumers like this one.
    _, name, protocol = port
    return [
        entry.port
        for entry in endpoint_slice.ports or ()
        if entry.name == name and entry.protocol == protocol and entry.port is not None and 0 < entry.port < 65536
    ]


def _endpoint(endpoint: objects.Endpoint, target: Target, weight: int) -> Endpoint:
    conditions, hints = endpoint.conditions, endpoint.hints
    return Endpoint(
        target=target,
        weight=weight,
        ready=conditions.ready is not False,
        serving=conditions.serving is not False,
        terminating=conditions.terminating is True,
        node=endpoint.node_name or None,
        zone_hints=tuple(zone.name for zone in hints.for_zones) if hints else (),
        node_hints=tuple(node.name for node in hints.for_nodes) if hints else (),
    )
