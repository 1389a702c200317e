"""What `kubectl get services` shows."""

from datetime import datetime

from api.model import Column, Object
from api.resources import cells


def _cluster_ip(service: Object, _now: datetime) -> str:
    addresses = service.get("spec", {}).get("clusterIPs", [])
    return addresses[0] if addresses else cells.NONE


def _external_ip(service: Object, _now: datetime) -> str:
    spec = service.get("spec", {})
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", ""))
    addresses = list(spec.get("externalIPs", []))
    if spec.get("type") != "LoadBalancer":
        return ",".join(addresses) or cells.NONE
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress", [])
    given = sorted({each.get("ip") or each.get("hostname", "") for each in ingress} - {""})
    return ",".join(given + addresses) or "<pending>"


def _ports(service: Object, _now: datetime) -> str:
    return ",".join(map(_port, service.get("spec", {}).get("ports", []))) or cells.NONE


def _port(port: Object) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port', 0)}{node_port}/{port.get('protocol', 'TCP')}"


COLUMNS = (
    cells.NAME,
    Column("Type", "string", 0, lambda service, _now: service.get("spec", {}).get("type", "")),
    Column("Cluster-IP", "string", 0, _cluster_ip),
    Column("External-IP", "string", 0, _external_ip),
    Column("Port(s)", "string", 0, _ports),
    cells.AGE,
    Column("Selector", "string", 1, lambda service, _now: cells.pairs(service.get("spec", {}).get("selector", {}))),
)
