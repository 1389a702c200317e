"""The server's defaults of a Service: what a manifest may leave out (kubernetes pkg/apis/core/v1/defaults.go)."""

from api.model import Object
from api.resources.service import needs

AFFINITY_SECONDS = 10800


def fill(service: Object) -> Object:
    """Fill in the defaults, in place."""
    service.setdefault("metadata", {})
    spec = service.setdefault("spec", {})
    spec["type"] = spec.get("type") or "ClusterIP"
    _fill_affinity(spec)
    for port in spec.get("ports", []):
        _fill_port(port)
    _fill_policies(spec)
    load_balancer = service.setdefault("status", {}).setdefault("loadBalancer", {})
    for ingress in load_balancer.get("ingress", []):
        if ingress.get("ip"):
            ingress.setdefault("ipMode", "VIP")
    return service


def _fill_affinity(spec: Object) -> None:
    spec["sessionAffinity"] = spec.get("sessionAffinity") or "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client_ip = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client_ip.setdefault("timeoutSeconds", AFFINITY_SECONDS)


def _fill_port(port: Object) -> None:
    port["protocol"] = port.get("protocol") or "TCP"
    port["targetPort"] = port.get("targetPort") or port.get("port", 0)


def _fill_policies(spec: Object) -> None:
    if needs.external_traffic_policy(spec):
        spec["externalTrafficPolicy"] = spec.get("externalTrafficPolicy") or "Cluster"
    if needs.cluster_ip(spec):
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if needs.load_balancer(spec):
        spec.setdefault("allocateLoadBalancerNodePorts", True)
