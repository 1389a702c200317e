"""The types of a Service's fields: only those that podwire looks at."""

from typing import Final, TypedDict

import msgspec

from api.resources import shapes


class ServicePort(TypedDict, total=False):
    name: str
    protocol: str
    appProtocol: str
    port: shapes.Int32
    targetPort: shapes.PortOrName
    nodePort: shapes.Int32


class ClientIPConfig(TypedDict, total=False):
    timeoutSeconds: shapes.Int32


class SessionAffinityConfig(TypedDict, total=False):
    clientIP: ClientIPConfig


class ServiceSpec(TypedDict, total=False):
    type: str
    ports: list[ServicePort]
    selector: shapes.Strings
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
    healthCheckNodePort: shapes.Int32
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
    metadata: shapes.Metadata
    spec: ServiceSpec
    status: ServiceStatus


# Described at import: threads whose first use of a type is the same moment would crash the process (kube.objects).
DECODER: Final = msgspec.json.Decoder(Service)
