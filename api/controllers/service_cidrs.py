"""Keeps the ServiceCIDR of the server's own ranges, says of each whether it gives addresses, and lets go of unused ones."""

from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_address

import structlog

from api import lifecycle
from api.controllers import carrying_out, conditions
from api.controllers.mirror import Mirror, Notice
from api.model import Object
from api.registry import Options, Registry
from api.resources.service.needs import HEADLESS
from api.resources.service_cidr import DEFAULT, FINALIZER, is_going, networks
from ipam.address import Address, Network
from kube.control import ControlLoop
from kube.errors import AlreadyExists, NotFound
from kube.resources import SERVICE_CIDRS, SERVICES

log = structlog.get_logger(__name__)

_STATUS = Options(subresource="status")
_READY = {"type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready"}
_IN_USE = {
    "type": "Ready",
    "status": "False",
    "reason": "Terminating",
    "message": "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
}


class ServiceCIDRs:
    """A controller; its keys are names of ServiceCIDRs."""

    name = "servicecidrs"

    def __init__(self, registry: Registry, mirror: Mirror) -> None:
        self._registry = registry
        self._mirror = mirror
        self.loop: ControlLoop[str] = ControlLoop(self.name)

    def ensure_default(self) -> None:
        """Make the object of the server's own ranges, or bring it up to date after a restart with others."""
        try:
            self._registry.create(SERVICE_CIDRS, None, {"metadata": {"name": DEFAULT}})
        except AlreadyExists:
            self._registry.patch(SERVICE_CIDRS, None, DEFAULT, {"spec": {"cidrs": None}})

    def on_change(self, notice: Notice) -> None:
        if notice.resource == SERVICE_CIDRS and notice.new:
            self.loop.mark(notice.key[1])
        elif notice.resource == SERVICES and _addresses(notice.old) - _addresses(notice.new):
            for service_cidr in self._mirror.all(SERVICE_CIDRS):
                if is_going(service_cidr):
                    self.loop.mark(service_cidr["metadata"]["name"])

    def sync(self, key: str) -> None:
        self._mirror.catch_up()
        service_cidr = self._mirror.get(SERVICE_CIDRS, ("", key))
        if service_cidr is None:
            return
        if not is_going(service_cidr):
            self._say(key, _READY)
        elif self._is_needed(service_cidr):
            self._say(key, _IN_USE)
        else:
            self._let_go(key)

    def _is_needed(self, service_cidr: Object) -> bool:
        """Whether a Service has an address that no other ServiceCIDR holds."""
        others = [each for each in self._mirror.all(SERVICE_CIDRS) if not is_going(each)]
        kept = [network for each in others for network in networks(each)]
        used = (address for service in self._mirror.all(SERVICES) for address in _addresses(service))
        return any(_within(address, networks(service_cidr)) and not _within(address, kept) for address in used)

    def _say(self, name: str, condition: Object) -> None:
        now = lifecycle.format_time(datetime.now(UTC))
        self._update(name, lambda current: conditions.put(current, condition, now), _STATUS)

    def _let_go(self, name: str) -> None:
        self._update(name, without_finalizer, Options())
        log.info("service CIDR removed", name=name)

    def _update(self, name: str, change: carrying_out.Change, options: Options) -> None:
        try:
            self._registry.update(SERVICE_CIDRS, None, name, change, options)
        except NotFound:
            return


def without_finalizer(service_cidr: Object) -> Object:
    about = service_cidr["metadata"]
    left = [each for each in about.get("finalizers", []) if each != FINALIZER]
    return service_cidr | {"metadata": about | {"finalizers": left}}


def _addresses(service: Object | None) -> set[Address]:
    spec = (service or {}).get("spec", {})
    return {ip_address(text) for text in spec.get("clusterIPs", []) if text != HEADLESS}


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)
