"""What a Service of each type has and needs: the questions defaults, validation and allocation all ask."""

from api.model import Object

HEADLESS = "None"
TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")


def cluster_ip(spec: Object) -> bool:
    return spec.get("type") in {"ClusterIP", "NodePort", "LoadBalancer"}


def is_headless(spec: Object) -> bool:
    return bool(spec.get("clusterIP") == HEADLESS)


def node_ports(spec: Object) -> bool:
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") == "NodePort"


def may_have_node_ports(spec: Object) -> bool:
    return spec.get("type") in {"NodePort", "LoadBalancer"}


def external_traffic_policy(spec: Object) -> bool:
    return may_have_node_ports(spec) or (spec.get("type") == "ClusterIP" and bool(spec.get("externalIPs")))


def health_check_node_port(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def load_balancer(spec: Object) -> bool:
    return bool(spec.get("type") == "LoadBalancer")
