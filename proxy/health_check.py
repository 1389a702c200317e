"""What a load balancer learns at a Service's healthCheckNodePort: whether this node has an endpoint of its own for it.

With externalTrafficPolicy Local a node without one drops the Service's external traffic, so none should be sent there.
"""

import ipaddress
from collections.abc import Iterable, Iterator

import msgspec

from kube import objects
from proxy.model import SERVICE_PROXY_NAME, Family, ServiceName

_VERSIONS = {"IPv4": 4, "IPv6": 6}


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True):
    """The port to answer on for a Service, and how many endpoints it has here."""

    port: int
    local_endpoints: int


def health_check(
    service: objects.Service | None, slices: Iterable[objects.EndpointSlice], *, node: str, family: Family
) -> HealthCheck | None:
    """What to answer for a Service; None if nothing is asked of it."""
    if service is None or SERVICE_PROXY_NAME in service.metadata.labels:
        return None
    spec = service.spec
    if spec.type != "LoadBalancer" or spec.external_traffic_policy != "Local" or spec.cluster_ip in {"", "None"}:
        return None
    if not 0 < spec.health_check_node_port < 65536:
        return None
    local = frozenset(_local_addresses(slices, node, _VERSIONS[family]))
    return HealthCheck(port=spec.health_check_node_port, local_endpoints=len(local))


def body(name: ServiceName, local_endpoints: int, *, is_proxy_healthy: bool) -> bytes:
    """kube-proxy's answer, to the byte."""
    namespace, service = msgspec.json.encode(name.namespace).decode(), msgspec.json.encode(name.name).decode()
    return (
        f'{{\n\t"service": {{\n\t\t"namespace": {namespace},\n\t\t"name": {service}\n\t}},\n'
        f'\t"localEndpoints": {local_endpoints},\n\t"serviceProxyHealthy": {str(is_proxy_healthy).lower()}\n}}'
    ).encode()


def _local_addresses(slices: Iterable[objects.EndpointSlice], node: str, version: int) -> Iterator[str]:
    """The addresses of ready endpoints on this node: a pod with many ports counts once."""
    for endpoint_slice in slices:
        for endpoint in endpoint_slice.endpoints or ():
            conditions = endpoint.conditions
            is_ready = conditions.ready is not False and conditions.terminating is not True
            if is_ready and endpoint.node_name == node and endpoint.addresses:
                yield from _of_version(endpoint.addresses[0], version)


def _of_version(text: str, version: int) -> Iterator[str]:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return
    if address.version == version:
        yield str(address)
