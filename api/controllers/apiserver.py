"""The API server as a Service: default/kubernetes and its slice, so that pods reach the API at a ClusterIP."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

import structlog

from api.controllers import carrying_out
from api.controllers.mirror import Mirror, Notice
from api.controllers.writes import Writes
from api.model import Object
from api.registry import Registry
from api.resources.endpointslice import SERVICE_NAME
from api.resources.service.identity import KUBERNETES
from kube.control import ControlLoop
from kube.resources import ENDPOINT_SLICES, SERVICES

log = structlog.get_logger(__name__)

HTTPS = 443

Address = IPv4Address | IPv6Address


class ApiServer:
    """A controller with one key. A server that listens on loopback only has no address to give to pods."""

    name = "apiserver"

    def __init__(self, registry: Registry, mirror: Mirror, advertise: tuple[Address, int]) -> None:
        self._registry = registry
        self._mirror = mirror
        address, self._port = advertise
        self._addresses = () if address.is_loopback or address.is_unspecified else (address,)
        self._version = address.version
        self.loop: ControlLoop[str] = ControlLoop(self.name)
        if not self._addresses:
            log.warning("pods cannot reach this API server: it has no address but its own", address=str(address))

    def on_change(self, notice: Notice) -> None:
        if notice.key == KUBERNETES and notice.resource in {SERVICES, ENDPOINT_SLICES}:
            self.loop.mark("kubernetes")

    def sync(self, key: str) -> None:
        del key
        carrying_out.settle(self._sync)

    def _sync(self) -> bool:
        self._mirror.catch_up()
        pairs = (
            (SERVICES, service(self._port)),
            (ENDPOINT_SLICES, endpoint_slice(self._addresses, self._port, version=self._version)),
        )
        for resource, wanted in pairs:
            carrying_out.apply(self._registry, resource, plan(wanted, self._mirror.get(resource, KUBERNETES)))
        return True


def plan(wanted: Object, current: Object | None) -> Writes:
    """Create what is missing; bring back into line what somebody changed."""
    if current is None:
        return Writes(create=(wanted,))
    if current.get("addressType") != wanted.get("addressType"):  # immutable: the next look creates it anew
        return Writes(delete=(current,))
    metadata = current["metadata"]
    labels = metadata.get("labels", {}) | wanted["metadata"]["labels"]
    merged = current | {key: value for key, value in wanted.items() if key not in {"metadata", "spec"}}
    merged |= {"metadata": metadata | {"labels": labels}}
    if "spec" in wanted:
        merged["spec"] = current["spec"] | wanted["spec"]
    return Writes() if merged == current else Writes(replace=(merged,))


def service(port: int) -> Object:
    """The Service. It has no selector, so its slice is ours to keep, and nobody's to manage."""
    namespace, name = KUBERNETES
    labels = {"component": "apiserver", "provider": "kubernetes"}
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {
            "type": "ClusterIP",
            "ports": [{"name": "https", "port": HTTPS, "protocol": "TCP", "targetPort": port}],
        },
    }


def endpoint_slice(addresses: Iterable[Address], port: int, *, version: int) -> Object:
    """Where the servers are."""
    namespace, name = KUBERNETES
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": {SERVICE_NAME: name}},
        "addressType": f"IPv{version}",
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [str(address)], "conditions": {"ready": True}} for address in addresses],
    }
