"""The types of the fields podwire looks at: what JSON must look like before anything else reads it.

Kubernetes refuses an object of the wrong shape while decoding it (400, before validation). Here the shape of every
kind is a TypedDict, so defaults, validation and controllers may index without asking. Fields that are not named are
kept as they are.
"""

from typing import Annotated, Any, TypedDict

import msgspec

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Strings = dict[str, str]
PortOrName = Int32 | str


class OwnerReference(TypedDict, total=False):
    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool
    blockOwnerDeletion: bool


class Metadata(TypedDict, total=False):
    name: str
    generateName: str
    namespace: str
    uid: str
    resourceVersion: str
    generation: Int64
    creationTimestamp: str
    deletionTimestamp: str
    deletionGracePeriodSeconds: Int64
    labels: Strings
    annotations: Strings
    ownerReferences: list[OwnerReference]
    finalizers: list[str]
    managedFields: list[dict[str, Any]]


class Condition(TypedDict, total=False):
    type: str
    status: str
    reason: str
    message: str
    lastTransitionTime: str


class Reference(TypedDict, total=False):
    apiVersion: str
    kind: str
    namespace: str
    name: str
    uid: str
    fieldPath: str


class NamespaceSpec(TypedDict, total=False):
    finalizers: list[str]


class NamespaceStatus(TypedDict, total=False):
    phase: str
    conditions: list[Condition]


class Namespace(TypedDict, total=False):
    metadata: Metadata
    spec: NamespaceSpec
    status: NamespaceStatus


class NodeAddress(TypedDict, total=False):
    type: str
    address: str


class Taint(TypedDict, total=False):
    key: str
    value: str
    effect: str


class NodeInfo(TypedDict, total=False):
    kubeletVersion: str
    osImage: str
    kernelVersion: str
    containerRuntimeVersion: str


class NodeSpec(TypedDict, total=False):
    podCIDR: str
    podCIDRs: list[str]
    unschedulable: bool
    taints: list[Taint]
    providerID: str


class NodeStatus(TypedDict, total=False):
    addresses: list[NodeAddress]
    conditions: list[Condition]
    nodeInfo: NodeInfo
    capacity: dict[str, str | int]
    allocatable: dict[str, str | int]


class Node(TypedDict, total=False):
    metadata: Metadata
    spec: NodeSpec
    status: NodeStatus


class ContainerPort(TypedDict, total=False):
    name: str
    containerPort: Int32
    hostPort: Int32
    hostIP: str
    protocol: str


class EnvVar(TypedDict, total=False):
    name: str
    value: str
    valueFrom: dict[str, Any]


class HTTPGet(TypedDict, total=False):
    path: str
    port: PortOrName
    host: str
    scheme: str


class TCPSocket(TypedDict, total=False):
    port: PortOrName
    host: str


class Exec(TypedDict, total=False):
    command: list[str]


class GRPC(TypedDict, total=False):
    port: Int32
    service: str


class Probe(TypedDict, total=False):
    httpGet: HTTPGet
    tcpSocket: TCPSocket
    exec: Exec
    grpc: GRPC
    initialDelaySeconds: Int32
    timeoutSeconds: Int32
    periodSeconds: Int32
    successThreshold: Int32
    failureThreshold: Int32


class Requirements(TypedDict, total=False):
    limits: dict[str, str | int | float]
    requests: dict[str, str | int | float]


class VolumeMount(TypedDict, total=False):
    name: str
    mountPath: str
    readOnly: bool


class Container(TypedDict, total=False):
    name: str
    image: str
    imagePullPolicy: str
    command: list[str]
    args: list[str]
    env: list[EnvVar]
    ports: list[ContainerPort]
    volumeMounts: list[VolumeMount]
    resources: Requirements
    restartPolicy: str
    readinessProbe: Probe
    livenessProbe: Probe
    startupProbe: Probe


class Toleration(TypedDict, total=False):
    key: str
    operator: str
    value: str
    effect: str
    tolerationSeconds: Int64


class ReadinessGate(TypedDict, total=False):
    conditionType: str


class PodSpec(TypedDict, total=False):
    containers: list[Container]
    initContainers: list[Container]
    volumes: list[dict[str, Any]]
    nodeName: str
    nodeSelector: Strings
    restartPolicy: str
    terminationGracePeriodSeconds: Int64
    activeDeadlineSeconds: Int64
    dnsPolicy: str
    hostname: str
    subdomain: str
    hostNetwork: bool
    schedulerName: str
    serviceAccountName: str
    tolerations: list[Toleration]
    readinessGates: list[ReadinessGate]


class Waiting(TypedDict, total=False):
    reason: str
    message: str


class Running(TypedDict, total=False):
    startedAt: str


class Terminated(TypedDict, total=False):
    exitCode: Int32
    signal: Int32
    reason: str
    startedAt: str
    finishedAt: str


class ContainerState(TypedDict, total=False):
    waiting: Waiting
    running: Running
    terminated: Terminated


class ContainerStatus(TypedDict, total=False):
    name: str
    ready: bool
    restartCount: Int32
    state: ContainerState
    lastState: ContainerState


class PodIP(TypedDict, total=False):
    ip: str


class PodStatus(TypedDict, total=False):
    phase: str
    reason: str
    message: str
    podIP: str
    podIPs: list[PodIP]
    hostIP: str
    nominatedNodeName: str
    conditions: list[Condition]
    containerStatuses: list[ContainerStatus]
    initContainerStatuses: list[ContainerStatus]
    startTime: str


class Pod(TypedDict, total=False):
    metadata: Metadata
    spec: PodSpec
    status: PodStatus


class ServicePort(TypedDict, total=False):
    name: str
    protocol: str
    appProtocol: str
    port: Int32
    targetPort: PortOrName
    nodePort: Int32


class ClientIPConfig(TypedDict, total=False):
    timeoutSeconds: Int32


class SessionAffinityConfig(TypedDict, total=False):
    clientIP: ClientIPConfig


class ServiceSpec(TypedDict, total=False):
    type: str
    ports: list[ServicePort]
    selector: Strings
    clusterIP: str
    clusterIPs: list[str]
    ipFamilies: list[str]
    ipFamilyPolicy: str
    externalIPs: list[str]
    externalName: str
    sessionAffinity: str
    sessionAffinityConfig: SessionAffinityConfig
    internalTrafficPolicy: str
    externalTrafficPolicy: str
    trafficDistribution: str
    healthCheckNodePort: Int32
    publishNotReadyAddresses: bool
    loadBalancerIP: str
    loadBalancerClass: str
    loadBalancerSourceRanges: list[str]
    allocateLoadBalancerNodePorts: bool


class Ingress(TypedDict, total=False):
    ip: str
    hostname: str
    ipMode: str


class LoadBalancerStatus(TypedDict, total=False):
    ingress: list[Ingress]


class ServiceStatus(TypedDict, total=False):
    loadBalancer: LoadBalancerStatus


class Service(TypedDict, total=False):
    metadata: Metadata
    spec: ServiceSpec
    status: ServiceStatus


class Conditions(TypedDict, total=False):
    ready: bool
    serving: bool
    terminating: bool


class Endpoint(TypedDict, total=False):
    addresses: list[str]
    conditions: Conditions
    hostname: str
    nodeName: str
    zone: str
    targetRef: Reference


class EndpointPort(TypedDict, total=False):
    name: str
    protocol: str
    port: Int32
    appProtocol: str


class EndpointSlice(TypedDict, total=False):
    metadata: Metadata
    addressType: str
    endpoints: list[Endpoint]
    ports: list[EndpointPort]


class ServiceCIDRSpec(TypedDict, total=False):
    cidrs: list[str]


class ServiceCIDRStatus(TypedDict, total=False):
    conditions: list[Condition]


class ServiceCIDR(TypedDict, total=False):
    metadata: Metadata
    spec: ServiceCIDRSpec
    status: ServiceCIDRStatus


class LeaseSpec(TypedDict, total=False):
    holderIdentity: str
    leaseDurationSeconds: Int32
    acquireTime: str
    renewTime: str
    leaseTransitions: Int32


class Lease(TypedDict, total=False):
    metadata: Metadata
    spec: LeaseSpec


class EventSource(TypedDict, total=False):
    component: str
    host: str


class EventSeries(TypedDict, total=False):
    count: Int32
    lastObservedTime: str


class Event(TypedDict, total=False):
    metadata: Metadata
    involvedObject: Reference
    reason: str
    message: str
    type: str
    count: Int32
    firstTimestamp: str
    lastTimestamp: str
    eventTime: str
    source: EventSource
    series: EventSeries
    reportingComponent: str
    reportingInstance: str
    action: str
