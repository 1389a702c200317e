"""What is wrong with a Service, or with changing one."""

from collections.abc import Sequence

from api.model import Object
from api.resources import fields, metadata, names
from api.resources.service import addresses, needs
from kube.errors import FieldError

LONGEST_AFFINITY = 86400
RANGES_ANNOTATION = "service.beta.kubernetes.io/load-balancer-source-ranges"

_AFFINITIES = ("ClientIP", "None")
_POLICIES = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_ONCE = "may not change once set"
_LOAD_BALANCER_ONLY = "may only be used when `type` is 'LoadBalancer'"
_NOT_EXTERNAL_NAME = "may not be set for ExternalName services"


def errors(service: Object, old: Object | None, offered: Sequence[str]) -> list[FieldError]:
    """Everything wrong with a settled Service, or with changing `old` into it; `offered` are the cluster's families."""
    spec, before = service["spec"], (old or {}).get("spec", {})
    found = [
        *metadata.errors(service, names.dns_1035_label),
        *fields.one_of("spec.type", spec["type"], needs.TYPES),
        *_ports(spec),
        *names.labels("spec.selector", spec.get("selector", {})),
        *_affinity(spec),
        *_addresses(spec, before, offered),
        *fields.each("spec.externalIPs", spec.get("externalIPs", []), _external_ip),
        *_load_balancer(spec),
        *_policies(spec),
    ]
    return found if old is None else found + _change(spec, before)


def _ports(spec: Object) -> list[FieldError]:
    ports = spec.get("ports", [])
    found = []
    if not ports and not needs.is_headless(spec) and spec["type"] != "ExternalName":
        found.append(fields.required("spec.ports"))
    for index, port in enumerate(ports):
        found += _port(f"spec.ports[{index}]", port, named=len(ports) > 1)
        if port.get("nodePort") and spec["type"] in {"ClusterIP", "ExternalName"}:
            why = f"may not be used when `type` is '{spec['type']}'"
            found.append(fields.forbidden(f"spec.ports[{index}].nodePort", why))
    return found + _duplicate_ports(ports)


def _port(path: str, port: Object, *, named: bool) -> list[FieldError]:
    found = _port_name(f"{path}.name", port.get("name", ""), named=named)
    found += fields.port(f"{path}.port", port.get("port", 0))
    found += fields.one_of(f"{path}.protocol", port["protocol"], fields.PROTOCOLS)
    found += fields.port_or_name(f"{path}.targetPort", port["targetPort"])
    if "appProtocol" in port:
        found += names.qualified_name(f"{path}.appProtocol", port["appProtocol"])
    return found


def _port_name(path: str, name: str, *, named: bool) -> list[FieldError]:
    if name:
        return names.dns_label(path, name)
    return [fields.required(path)] if named else []


def _duplicate_ports(ports: list[Object]) -> list[FieldError]:
    numbered = list(enumerate(ports))
    keys = [{"protocol": port["protocol"], "port": port.get("port", 0)} for port in ports]
    return [
        *fields.unique((f"spec.ports[{i}].name", port["name"]) for i, port in numbered if port.get("name")),
        *[fields.duplicate(f"spec.ports[{i}]", key) for i, key in enumerate(keys) if key in keys[:i]],
        *[
            fields.duplicate(f"spec.ports[{i}].nodePort", port["nodePort"])
            for i, port in numbered
            if port.get("nodePort") and any(_same_node_port(port, other) for other in ports[:i])
        ],
    ]


def _same_node_port(port: Object, other: Object) -> bool:
    return bool(port["nodePort"] == other.get("nodePort") and port["protocol"] == other["protocol"])


def _affinity(spec: Object) -> list[FieldError]:
    found = fields.one_of("spec.sessionAffinity", spec["sessionAffinity"], _AFFINITIES)
    if spec["sessionAffinity"] == "ClientIP":
        seconds = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
        if not 0 < seconds <= LONGEST_AFFINITY:
            path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
            found.append(fields.invalid(path, seconds, f"must be greater than 0 and less than {LONGEST_AFFINITY}"))
    return found


def _external_name(spec: Object) -> list[FieldError]:
    found = [
        fields.forbidden(f"spec.{key}", _NOT_EXTERNAL_NAME)
        for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
        if spec.get(key)
    ]
    name = spec.get("externalName", "").removesuffix(".")
    return found + (names.dns_subdomain("spec.externalName", name) if name else [fields.required("spec.externalName")])


def _addresses(spec: Object, before: Object, offered: Sequence[str]) -> list[FieldError]:
    if needs.cluster_ip(spec):
        return addresses.errors(spec, before if needs.cluster_ip(before) else {}, offered)
    return _external_name(spec) if spec["type"] == "ExternalName" else []


def _external_ip(path: str, address: object) -> list[FieldError]:
    return fields.unicast_ip(path, str(address))


def _load_balancer(spec: Object) -> list[FieldError]:
    keys = ("loadBalancerSourceRanges", "allocateLoadBalancerNodePorts", "loadBalancerClass")
    if not needs.load_balancer(spec):
        return [fields.forbidden(f"spec.{key}", _LOAD_BALANCER_ONLY) for key in keys if key in spec]
    found = fields.each("spec.loadBalancerSourceRanges", spec.get("loadBalancerSourceRanges", []), _source_range)
    if "loadBalancerClass" in spec:
        found += names.qualified_name("spec.loadBalancerClass", spec["loadBalancerClass"])
    return found


def _source_range(path: str, text: object) -> list[FieldError]:
    return fields.cidr(path, str(text).strip())[1]


def _policies(spec: Object) -> list[FieldError]:
    found = []
    external = spec.get("externalTrafficPolicy", "")
    if needs.external_traffic_policy(spec):
        found += fields.one_of("spec.externalTrafficPolicy", external, _POLICIES)
    elif external:
        why = "may only be set for externally-accessible services"
        found.append(fields.invalid("spec.externalTrafficPolicy", external, why))
    if "internalTrafficPolicy" in spec:
        found += fields.one_of("spec.internalTrafficPolicy", spec["internalTrafficPolicy"], _POLICIES)
    if "trafficDistribution" in spec:
        found += fields.one_of("spec.trafficDistribution", spec["trafficDistribution"], _DISTRIBUTIONS)
    return found + _health_check(spec)


def _health_check(spec: Object) -> list[FieldError]:
    path, number = "spec.healthCheckNodePort", spec.get("healthCheckNodePort", 0)
    if not number:
        return []
    if needs.health_check_node_port(spec):
        return fields.port(path, number)
    return [
        fields.invalid(
            path, number, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        )
    ]


def _change(spec: Object, before: Object) -> list[FieldError]:
    rules = (
        (needs.load_balancer, _same_class),
        (needs.health_check_node_port, _same_health_check),
    )
    return [error for need, rule in rules if need(spec) and need(before) for error in rule(spec, before)]


def _same_class(spec: Object, before: Object) -> list[FieldError]:
    now, was = spec.get("loadBalancerClass"), before.get("loadBalancerClass")
    return [] if now == was else [fields.invalid("spec.loadBalancerClass", now, _ONCE)]


def _same_health_check(spec: Object, before: Object) -> list[FieldError]:
    now, was = spec.get("healthCheckNodePort"), before.get("healthCheckNodePort")
    return [] if now == was else [fields.forbidden("spec.healthCheckNodePort", fields.IMMUTABLE)]
