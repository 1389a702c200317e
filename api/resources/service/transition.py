"""From one version of a Service to the next: what it keeps when an update leaves it out, what it sheds when its type changes.

A client that replaces a Service without its clusterIP or nodePorts means "as they are"; a client that turns a NodePort
Service into a ClusterIP one means "without them". Both are settled here, before validation judges the result.
"""

import copy
from collections.abc import Sequence

from api.model import Object
from api.resources.service import families, needs


def settle(service: Object, old: Object | None, offered: Sequence[str]) -> Object:
    """The Service as the user means it, given what it was and the families the cluster offers; a copy."""
    service = copy.deepcopy(service)
    spec, before = service["spec"], (old or {}).get("spec", {})
    _pair_cluster_ips(spec, before)
    if needs.cluster_ip(spec) and needs.cluster_ip(before):
        _keep(spec, before, families.FIELDS)
    if needs.node_ports(spec) and needs.node_ports(before):
        _keep_node_ports(spec, before)
    if needs.health_check_node_port(spec) and needs.health_check_node_port(before):
        _keep(spec, before, ("healthCheckNodePort",))
    _shed(spec, before)
    if needs.cluster_ip(spec):
        families.complete(spec, before if needs.cluster_ip(before) else {}, offered)
    return service


def _pair_cluster_ips(spec: Object, before: Object) -> None:
    """Carry over a change of clusterIP to clusterIPs, its newer name, for clients that know only the older one."""
    address = spec.get("clusterIP")
    if not before:
        if address and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [address]
    elif address != before.get("clusterIP") and spec.get("clusterIPs") == before.get("clusterIPs"):
        spec["clusterIPs"] = [address] if address else []
    if not address:
        spec.pop("clusterIP", None)
    if not spec.get("clusterIPs"):
        spec.pop("clusterIPs", None)


def _keep(spec: Object, before: Object, keys: tuple[str, ...]) -> None:
    for key in keys:
        if not spec.get(key) and before.get(key):
            spec[key] = before[key]


def _keep_node_ports(spec: Object, before: Object) -> None:
    """A port keeps its nodePort by name, unless another port of the update asks for that number."""
    held = {port.get("name", ""): port["nodePort"] for port in before.get("ports", []) if port.get("nodePort")}
    asked = {port["nodePort"] for port in spec.get("ports", []) if port.get("nodePort")}
    for port in spec.get("ports", []):
        number = held.get(port.get("name", ""))
        if not port.get("nodePort") and number not in asked | {None}:
            port["nodePort"] = number
            asked.add(number)


def _shed(spec: Object, before: Object) -> None:
    """Drop what only the former type needed, as long as the update did not itself set it."""
    for need, keys in (
        (needs.cluster_ip, families.FIELDS),
        (needs.external_traffic_policy, ("externalTrafficPolicy",)),
        (needs.health_check_node_port, ("healthCheckNodePort",)),
        (needs.load_balancer, ("allocateLoadBalancerNodePorts", "loadBalancerClass")),
    ):
        if need(before) and not need(spec):
            _drop_unchanged(spec, before, keys)
    if needs.node_ports(before) and not needs.node_ports(spec) and _node_ports(spec) == _node_ports(before):
        for port in spec.get("ports", []):
            port.pop("nodePort", None)


def _drop_unchanged(spec: Object, before: Object, keys: tuple[str, ...]) -> None:
    for key in keys:
        if spec.get(key) == before.get(key):
            spec.pop(key, None)


def _node_ports(spec: Object) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports", []) if port.get("nodePort")}
