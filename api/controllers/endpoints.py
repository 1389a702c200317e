"""From a pod to the endpoint it is: pure. Who counts, where it listens, and whether it takes traffic."""

from typing import Any

from api.model import Object
from api.resources.pod import is_finished
from api.resources.service.families import family_of

ZONE = "topology.kubernetes.io/zone"

Ports = tuple[tuple[tuple[str, Any], ...], ...]
"""A slice's ports as a value that can be compared and hashed: the items of each port, in its order."""


def address_of(pod: Object, family: str) -> str:
    """The pod's address of a family, "" as long as it has none."""
    status = pod.get("status", {})
    addresses = [status.get("podIP", ""), *(each.get("ip", "") for each in status.get("podIPs", []))]
    return next((address for address in addresses if family_of(address) == family), "")


def is_endpoint(pod: Object, family: str) -> bool:
    """A pod counts from when it has an address until it has run to its end; terminating ones still do."""
    return bool(address_of(pod, family)) and not is_finished(pod)


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def endpoint(service: Object, pod: Object, family: str, zone: str) -> Object:
    """The endpoint a pod is to a Service in one of its families."""
    metadata = pod["metadata"]
    serving, terminating = is_ready(pod), "deletionTimestamp" in metadata
    unconditional = service["spec"].get("publishNotReadyAddresses", False)
    found: Object = {
        "addresses": [address_of(pod, family)],
        "conditions": {
            "ready": unconditional or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }
    spec = pod.get("spec", {})
    optional = {"nodeName": spec.get("nodeName"), "zone": zone, "hostname": _hostname(service, spec)}
    return found | {key: value for key, value in optional.items() if value}


def _hostname(service: Object, spec: Object) -> str:
    """A pod that names this Service as its subdomain is known under its own hostname there."""
    return str(spec.get("hostname", "")) if spec.get("subdomain") == service["metadata"]["name"] else ""


def ports(service: Object, pod: Object) -> Ports:
    """Where this pod listens for the Service's ports. A named port may be another number in another pod."""
    found = []
    for port in service["spec"].get("ports", []):
        number = _number(port, pod)
        if number is not None:
            found.append(_port(port, number))
    return tuple(found)


def _port(port: Object, number: int) -> tuple[tuple[str, Any], ...]:
    items = {"name": port.get("name", ""), "protocol": port.get("protocol", "TCP"), "port": number}
    if "appProtocol" in port:
        items["appProtocol"] = port["appProtocol"]
    return tuple(sorted(items.items()))


def _number(port: Object, pod: Object) -> int | None:
    target = port.get("targetPort") or port.get("port")
    if isinstance(target, int):
        return target
    spec = pod.get("spec", {})
    return next(
        (
            int(listening["containerPort"])
            for container in [*spec.get("containers", []), *_sidecars(spec)]
            for listening in container.get("ports", [])
            if (listening.get("name"), listening.get("protocol")) == (target, port.get("protocol"))
        ),
        None,
    )


def _sidecars(spec: Object) -> list[Object]:
    """Init containers that stay; the others have ended before anybody could connect to them."""
    return [each for each in spec.get("initContainers", []) if each.get("restartPolicy") == "Always"]
