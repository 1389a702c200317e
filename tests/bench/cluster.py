"""A generated cluster: Services numbered from 0, each with the same number of endpoints, no address twice.

Service n is default/service-n with ClusterIP 10.96.0.10 + n, port 80/TCP; endpoints count up from 10.128.0.1, port 8080.
With two families it also has fd00:96::10 + n and endpoints from fd00:128::1. The objects are written as a kube-apiserver
writes them, with all that no proxy reads.
"""

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

FIRST_CLUSTER_IP = {4: ipaddress.ip_address("10.96.0.10"), 6: ipaddress.ip_address("fd00:96::10")}
FIRST_ENDPOINT = {4: ipaddress.ip_address("10.128.0.1"), 6: ipaddress.ip_address("fd00:128::1")}
FIRST_NODE_PORT, LAST_NODE_PORT = 30_000, 65_000
NODES = 100
NAMESPACE = "default"
EXTRA_ENDPOINTS = 1 << 21  # further than any generated endpoint: addresses for changes


class EndpointAddress(NamedTuple):
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int


class Shape(NamedTuple):
    """What a cluster consists of; shares are of all Services, spread evenly."""

    services: int
    endpoints: int = 5
    affinity: float = 0.0
    node_ports: float = 0.0
    dual_stack: bool = False

    @property
    def versions(self) -> tuple[int, ...]:
        return (4, 6) if self.dual_stack else (4,)


def cluster_ip(service: int, version: int = 4) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return FIRST_CLUSTER_IP[version] + service


def endpoints(service: int, count: int, version: int = 4) -> tuple[EndpointAddress, ...]:
    first = FIRST_ENDPOINT[version] + service * count
    return tuple(EndpointAddress(first + i, 8080) for i in range(count))


def service_name(service: int) -> str:
    return f"service-{service}"


def slice_name(service: int, version: int, part: int = 0) -> str:
    return f"service-{service}-v{version}-{part}"


def falls_on(share: float, number: int) -> bool:
    """Whether this one is of the share: every tenth for 0.1."""
    return int((number + 1) * share) > int(number * share)


def service_object(number: int, shape: Shape, version: int) -> bytes:
    """The JSON of one Service at a resourceVersion."""
    addresses = [f'"{cluster_ip(number, family)}"' for family in shape.versions]
    families = ['"IPv4"', '"IPv6"'][: len(addresses)]
    has_node_port = falls_on(shape.node_ports, number) and FIRST_NODE_PORT + number < LAST_NODE_PORT
    node_port = f',"nodePort":{FIRST_NODE_PORT + number}' if has_node_port else ""
    affinity = _AFFINITY if falls_on(shape.affinity, number) else _NO_AFFINITY
    return (
        f'{{"metadata":{{"name":"service-{number}","namespace":"{NAMESPACE}","uid":"{_uid(1, number)}",'
        f'"resourceVersion":"{version}","creationTimestamp":"2026-01-01T00:00:00Z",'
        f'"labels":{{"app.kubernetes.io/name":"service-{number}","app.kubernetes.io/part-of":"bench"}},'
        f'"annotations":{{"meta.helm.sh/release-name":"bench","meta.helm.sh/release-namespace":"{NAMESPACE}"}},'
        f'"managedFields":[{_SERVICE_FIELDS}]}},'
        f'"spec":{{"ports":[{{"name":"http","protocol":"TCP","port":80,"targetPort":8080{node_port}}}],'
        f'"selector":{{"app.kubernetes.io/name":"service-{number}"}},"clusterIP":{addresses[0]},'
        f'"clusterIPs":[{",".join(addresses)}],"type":"{"NodePort" if has_node_port else "ClusterIP"}",'
        f'{affinity},"ipFamilies":[{",".join(families)}],"ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster"}},'
        f'"status":{{"loadBalancer":{{}}}}}}'
    ).encode()


def slice_object(number: int, family: int, version: int, addresses: Sequence[EndpointAddress], part: int = 0) -> bytes:
    """The JSON of one of a Service's EndpointSlices of a family at a resourceVersion."""
    entries = ",".join(_endpoint(entry.address, index) for index, entry in enumerate(addresses))
    return (
        f'{{"metadata":{{"name":"{slice_name(number, family, part)}","generateName":"service-{number}-",'
        f'"namespace":"{NAMESPACE}","uid":"{_uid(family, number)}","resourceVersion":"{version}","generation":5,'
        f'"creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app.kubernetes.io/name":"service-{number}",'
        f'"app.kubernetes.io/part-of":"bench",'
        f'"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io",'
        f'"kubernetes.io/service-name":"service-{number}"}},'
        f'"annotations":{{"endpoints.kubernetes.io/last-change-trigger-time":"2026-01-01T00:00:00Z"}},'
        f'"ownerReferences":[{{"apiVersion":"v1","kind":"Service","name":"service-{number}",'
        f'"uid":"{_uid(1, number)}","controller":true,"blockOwnerDeletion":true}}],'
        f'"managedFields":[{_SLICE_FIELDS}]}},"addressType":"IPv{family}","endpoints":[{entries}],'
        f'"ports":[{{"name":"http","protocol":"TCP","port":8080}}]}}'
    ).encode()


def node_object(name: str, address: str, version: int) -> bytes:
    """The JSON of the Node the measured proxy runs on."""
    return (
        f'{{"metadata":{{"name":"{name}","uid":"{_uid(9, 0)}","resourceVersion":"{version}","labels":'
        f'{{"topology.kubernetes.io/zone":"zone-0"}}}},"spec":{{"podCIDR":"10.244.0.0/24",'
        f'"podCIDRs":["10.244.0.0/24","fd00:244::/64"]}},"status":{{"addresses":['
        f'{{"type":"InternalIP","address":"{address}"}}],"conditions":[{{"type":"Ready","status":"True"}}]}}}}'
    ).encode()


def _endpoint(address: object, index: int) -> str:
    return (
        f'{{"addresses":["{address}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},'
        f'"targetRef":{{"kind":"Pod","namespace":"{NAMESPACE}","name":"pod-{index}-{str(address)[-8:]}",'
        f'"uid":"{_uid(5, index)}"}},"nodeName":"node-{index % NODES}","zone":"zone-{index % 3}"}}'
    )


def _uid(kind: int, number: int) -> str:
    return f"{number:08x}-0000-4000-8{kind:03x}-0123456789ab"


_NO_AFFINITY = '"sessionAffinity":"None"'
_AFFINITY = '"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":10800}}'
_SERVICE_FIELDS = (
    '{"manager":"helm","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1",'
    '"fieldsV1":{"f:metadata":{"f:annotations":{".":{},"f:meta.helm.sh/release-name":{}},"f:labels":{".":{},'
    '"f:app.kubernetes.io/name":{}}},"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\\"port\\":80,'
    '\\"protocol\\":\\"TCP\\"}":{".":{},"f:name":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},"f:selector":{},'
    '"f:sessionAffinity":{},"f:type":{}}}}'
)
_SLICE_FIELDS = (
    '{"manager":"kube-controller-manager","operation":"Update","apiVersion":"discovery.k8s.io/v1",'
    '"time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:addressType":{},"f:endpoints":{},'
    '"f:metadata":{"f:annotations":{".":{},"f:endpoints.kubernetes.io/last-change-trigger-time":{}},"f:generateName":'
    '{},"f:labels":{".":{},"f:endpointslice.kubernetes.io/managed-by":{},"f:kubernetes.io/service-name":{}},'
    '"f:ownerReferences":{".":{},"k:{\\"uid\\":\\"00000000-0000-4000-8001-0123456789ab\\"}":{}}},"f:ports":{}}}'
)
