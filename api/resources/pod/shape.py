"""The types of a Pod's fields: only those that podwire looks at."""

from typing import Any, Final, TypedDict

import msgspec

from api.resources import shapes


class ContainerPort(TypedDict, total=False):
    name: str
    containerPort: shapes.Int32
    hostPort: shapes.Int32
    hostIP: str
    protocol: str


class EnvVar(TypedDict, total=False):
    name: str
    value: str
    valueFrom: dict[str, Any]


class HTTPGet(TypedDict, total=False):
    path: str
    port: shapes.PortOrName
    host: str
    scheme: str


class TCPSocket(TypedDict, total=False):
    port: shapes.PortOrName
    host: str


class Exec(TypedDict, total=False):
    command: list[str]


class GRPC(TypedDict, total=False):
    port: shapes.Int32
    service: str


class Probe(TypedDict, total=False):
    httpGet: HTTPGet
    tcpSocket: TCPSocket
    exec: Exec
    grpc: GRPC
    initialDelaySeconds: shapes.Int32
    timeoutSeconds: shapes.Int32
    periodSeconds: shapes.Int32
    successThreshold: shapes.Int32
    failureThreshold: shapes.Int32


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
    tolerationSeconds: shapes.Int64


class ReadinessGate(TypedDict, total=False):
    conditionType: str


class PodSpec(TypedDict, total=False):
    containers: list[Container]
    initContainers: list[Container]
    volumes: list[dict[str, Any]]
    nodeName: str
    nodeSelector: shapes.Strings
    restartPolicy: str
    terminationGracePeriodSeconds: shapes.Int64
    activeDeadlineSeconds: shapes.Int64
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
    exitCode: shapes.Int32
    signal: shapes.Int32
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
    restartCount: shapes.Int32
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
    conditions: list[shapes.Condition]
    containerStatuses: list[ContainerStatus]
    initContainerStatuses: list[ContainerStatus]
    startTime: str


class Pod(TypedDict, total=False):
    metadata: shapes.Metadata
    spec: PodSpec
    status: PodStatus


# Described at import: threads whose first use of a type is the same moment would crash the process (kube.objects).
DECODER: Final = msgspec.json.Decoder(Pod)
