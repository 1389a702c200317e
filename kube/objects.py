"""Kubernetes objects as podwire reads them: typed, frozen, and nothing but the fields somebody here uses.

Decoding straight into these skips every other field without building it, which is most of an object; a cluster has
tens of thousands of Services and hundreds of thousands of endpoints. Values stay as they are spelled on the wire;
whoever uses an address turns it into an `ipaddress` type and can say which object was wrong. A field marked `| None`
is one that Go writes as null. `gc=False`: values hold no cycles, and the collector need not walk them.
"""

from datetime import datetime
from typing import Final, Literal

import msgspec
from msgspec import Struct, field

Protocol = Literal["TCP", "UDP", "SCTP"]
Family = Literal["IPv4", "IPv6"]
ConditionStatus = Literal["True", "False", "Unknown"]
TrafficPolicy = Literal["Cluster", "Local"]


class Wire(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """How all of them are written: camelCase, defaults left out."""


class ObjectMeta(Wire, frozen=True):
    """metav1.ObjectMeta."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    deletion_timestamp: datetime | None = None
    deletion_grace_period_seconds: int | None = None


class AnnotatedMeta(ObjectMeta, frozen=True):
    """For kinds whose annotations are read: of most they are large and nobody's business. Go writes none as null."""

    annotations: dict[str, str] | None = None


class ServiceAnnotations(Wire, frozen=True):
    """Of a Service's annotations those that mean something to podwire; kubectl's alone are as large as the Service."""

    on_endpoint_removal: str = field(default="", name="podwire.dev/on-endpoint-removal")


class ServiceMeta(ObjectMeta, frozen=True):
    """A Service's metadata. Go writes no annotations as null."""

    annotations: ServiceAnnotations | None = None
    creation_timestamp: str = ""


class Condition(Wire, frozen=True):
    """One entry of status.conditions of a Node or Pod."""

    type: str
    status: ConditionStatus = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


# --- Node


class NodeAddress(Wire, frozen=True):
    type: str
    address: str


class Taint(Wire, frozen=True):
    key: str


class NodeSpec(Wire, frozen=True):
    pod_cidr: str = field(default="", name="podCIDR")
    pod_cidrs: tuple[str, ...] = field(default=(), name="podCIDRs")
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeSystemInfo(Wire, frozen=True):
    kubelet_version: str = ""


class NodeStatus(Wire, frozen=True):
    addresses: tuple[NodeAddress, ...] = ()
    conditions: tuple[Condition, ...] = ()
    node_info: NodeSystemInfo = NodeSystemInfo()


class Node(Wire, frozen=True):
    """core/v1 Node."""

    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


# --- Pod


class ContainerPort(Wire, frozen=True):
    """`host_port` is the port of the node that leads here, 0 for none; on `host_ip` only, if there is one."""

    container_port: int
    name: str = ""
    protocol: Protocol = "TCP"
    host_port: int = 0
    host_ip: str = field(default="", name="hostIP")


class FieldRef(Wire, frozen=True):
    """A field of the pod itself, `status.podIP` or `metadata.name`."""

    field_path: str


class EnvSource(Wire, frozen=True):
    field_ref: FieldRef | None = None


class EnvVar(Wire, frozen=True):
    name: str
    value: str = ""
    value_from: EnvSource | None = None


class HttpGet(Wire, frozen=True):
    """`port` is a number or the name of one of the container's ports."""

    port: int | str
    path: str = "/"
    host: str = ""
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"


class TcpSocket(Wire, frozen=True):
    port: int | str
    host: str = ""


class Exec(Wire, frozen=True):
    command: tuple[str, ...] = ()


class Probe(Wire, frozen=True):
    """Kubernetes' defaults; exactly one of the three actions is set."""

    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    exec: Exec | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3


class Container(Wire, frozen=True):
    name: str
    image: str = ""
    image_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    readiness_probe: Probe | None = None


class PodSpec(Wire, frozen=True):
    """`containers` is null on a pod that nobody validated."""

    containers: tuple[Container, ...] | None = ()
    node_name: str = ""
    host_network: bool = False
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: int = 30


class PodIP(Wire, frozen=True):
    ip: str = ""


class ContainerStatus(Wire, frozen=True):
    name: str
    ready: bool = False
    restart_count: int = 0


class PodStatus(Wire, frozen=True):
    phase: Literal["", "Pending", "Running", "Succeeded", "Failed", "Unknown"] = ""
    pod_ip: str = field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = field(default=(), name="podIPs")
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    start_time: datetime | None = None


class Pod(Wire, frozen=True):
    """core/v1 Pod."""

    metadata: ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


# --- Service


class ServicePort(Wire, frozen=True):
    """One port of a Service. targetPort is missing on purpose: EndpointSlices carry the port traffic goes to."""

    port: int
    name: str = ""
    protocol: Protocol = "TCP"
    node_port: int = 0


class ClientIPConfig(Wire, frozen=True):
    timeout_seconds: int | None = None


class SessionAffinityConfig(Wire, frozen=True):
    client_ip: ClientIPConfig | None = field(default=None, name="clientIP")


class ServiceSpec(Wire, frozen=True):
    """What a service proxy reads."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ip: str = field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = field(default=(), name="clusterIPs")
    ip_families: tuple[Family, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    external_ips: tuple[str, ...] = field(default=(), name="externalIPs")
    session_affinity: Literal["None", "ClientIP"] = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: TrafficPolicy = "Cluster"
    external_traffic_policy: Literal["", "Cluster", "Local"] = ""
    health_check_node_port: int = 0
    load_balancer_source_ranges: tuple[str, ...] = ()


class ServiceCIDRSpec(Wire, frozen=True):
    """The ranges that cluster IPs are taken from, at most one of each family."""

    cidrs: tuple[str, ...] = ()


class ServiceCIDR(Wire, frozen=True):
    """networking.k8s.io/v1 ServiceCIDR."""

    metadata: ObjectMeta
    spec: ServiceCIDRSpec = ServiceCIDRSpec()


class LoadBalancerIngress(Wire, frozen=True):
    ip: str = ""
    ip_mode: Literal["VIP", "Proxy"] = "VIP"


class LoadBalancerStatus(Wire, frozen=True):
    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Wire, frozen=True):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(Wire, frozen=True):
    """core/v1 Service."""

    metadata: ServiceMeta
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


# --- EndpointSlice


class EndpointConditions(Wire, frozen=True):
    """None means: not said. ready and serving then count as true, terminating as false (discovery/v1)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForName(Wire, frozen=True):
    name: str


class EndpointHints(Wire, frozen=True):
    for_zones: tuple[ForName, ...] = ()
    for_nodes: tuple[ForName, ...] = ()


class TargetRef(Wire, frozen=True):
    """The object behind an endpoint; its namespace is always the slice's."""

    kind: str = ""
    name: str = ""


class Endpoint(Wire, frozen=True):
    addresses: tuple[str, ...]
    conditions: EndpointConditions = EndpointConditions()
    node_name: str | None = None
    zone: str | None = None
    hints: EndpointHints | None = None
    target_ref: TargetRef | None = None


class EndpointPort(Wire, frozen=True):
    """`name` or `port` None: the port is not to be used (discovery/v1)."""

    name: str | None = None
    port: int | None = None
    protocol: Protocol = "TCP"


class EndpointSlice(Wire, frozen=True):
    """discovery/v1 EndpointSlice. Its lists are null when they are empty."""

    metadata: AnnotatedMeta
    address_type: Literal["IPv4", "IPv6", "FQDN"] = "IPv4"
    endpoints: tuple[Endpoint, ...] | None = ()
    ports: tuple[EndpointPort, ...] | None = ()


# msgspec describes a type to itself at its first use; threads whose first use is the same moment crash the process.
DECODERS: Final = tuple(msgspec.json.Decoder(kind) for kind in (Node, Pod, Service, ServiceCIDR, EndpointSlice))
