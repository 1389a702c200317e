"""The types of the fields podwire looks at: what JSON must look like before anything else reads it. Those of Pods and
Services are with their kinds.

Kubernetes refuses an object of the wrong shape while decoding it (400, before validation). Here the shape of every
kind is a TypedDict, so defaults, validation and controllers may index without asking. Fields that are not named are
kept as they are.
"""

from typing import Annotated, Any, Final, TypedDict

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


# Described at import: threads whose first use of a type is the same moment would crash the process (kube.objects).
DECODERS: Final = tuple(
    msgspec.json.Decoder(kind) for kind in (Namespace, Node, EndpointSlice, ServiceCIDR, Lease, Event)
)
