"""The server's defaults of a Pod: what a manifest may leave out (kubernetes pkg/apis/core/v1/defaults.go)."""

from collections.abc import Iterator
from typing import Any

from api.model import Object

PROBES = ("readinessProbe", "livenessProbe", "startupProbe")
COMPUTE = ("cpu", "memory")

_SPEC: dict[str, Any] = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "enableServiceLinks": True,
}
_CONTAINER = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}


def fill(pod: Object) -> Object:
    """Fill in the defaults, in place."""
    pod.setdefault("metadata", {})
    spec = pod.setdefault("spec", {})
    for key, value in _SPEC.items():
        spec.setdefault(key, value)
    spec.setdefault("securityContext", {})
    for container in containers(spec):
        _fill_container(container, host_network=spec.get("hostNetwork", False))
    for volume in spec.get("volumes", []):
        if set(volume) <= {"name"}:
            volume["emptyDir"] = {}
    status = pod.setdefault("status", {})
    status.setdefault("phase", "Pending")
    _pair_addresses(status)
    return pod


def _pair_addresses(status: Object) -> None:
    """Keep podIP and podIPs, two names of one thing, the same; whoever writes only the older one means it."""
    first = next((each.get("ip", "") for each in status.get("podIPs", [])), "")
    if "podIP" not in status:
        if first:
            status["podIP"] = first
    elif first != status["podIP"]:
        status["podIPs"] = [{"ip": status["podIP"]}] if status["podIP"] else []


def containers(spec: Object) -> Iterator[Object]:
    """Every container of a pod, the init containers first, as they run."""
    yield from spec.get("initContainers", [])
    yield from spec.get("containers", [])


def _fill_container(container: Object, *, host_network: bool) -> None:
    container.setdefault("imagePullPolicy", _pull_policy(container.get("image", "")))
    for key, value in _CONTAINER.items():
        container.setdefault(key, value)
    for port in container.get("ports", []):
        port.setdefault("protocol", "TCP")
        if host_network and not port.get("hostPort"):
            port["hostPort"] = port.get("containerPort", 0)
    for name in PROBES:
        if name in container:
            _fill_probe(container[name])
    resources = container.setdefault("resources", {})
    if "limits" in resources:
        resources["requests"] = resources["limits"] | resources.get("requests", {})


def _fill_probe(probe: Object) -> None:
    for key, value in _PROBE.items():
        probe[key] = probe.get(key) or value
    if "httpGet" in probe:
        probe["httpGet"]["path"] = probe["httpGet"].get("path") or "/"
        probe["httpGet"]["scheme"] = probe["httpGet"].get("scheme") or "HTTP"


def _pull_policy(image: str) -> str:
    """Always for a tag that moves. The last path segment may hold a tag; an earlier colon is a registry's port."""
    name, at, _digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return "IfNotPresent" if at or tag not in {"", "latest"} else "Always"


def qos_class(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, from what the containers ask for."""
    asked = [container.get("resources", {}) for container in containers(spec)]
    if not any(each.get(kind) for each in asked for kind in ("limits", "requests")):
        return "BestEffort"
    return "Guaranteed" if all(_is_guaranteed(each) for each in asked) else "Burstable"


def _is_guaranteed(resources: Object) -> bool:
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    return all(name in limits and requests.get(name, limits[name]) == limits[name] for name in COMPUTE)
