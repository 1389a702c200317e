"""The controllers inside the API server: each makes one promise of the API come true, over and over.

A change wakes the mirror's thread, the mirror tells every controller, a controller marks the keys it concerns, and its
own thread makes them right. What is right is decided by pure functions from what is true now, so a crash, a missed
event or a foreign write needs no handling of its own: the next look finds it.
"""

import threading
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from api.controllers.apiserver import ApiServer
from api.controllers.controller import Running
from api.controllers.endpointslices import EndpointSlices
from api.controllers.garbage import LostPods, OldEvents
from api.controllers.mirror import Mirror
from api.controllers.namespaces import Namespaces
from api.controllers.node_lifecycle import NodeLifecycle, Patience
from api.controllers.scheduler import Scheduler
from api.controllers.service_cidrs import ServiceCIDRs
from api.registry import Registry
from kube.resources import ENDPOINT_SLICES, LEASES, NAMESPACES, NODES, PODS, SERVICE_CIDRS, SERVICES

# Namespaces and nodes first: what lives in or on them is looked at with them known.
_KINDS = (NAMESPACES, NODES, SERVICE_CIDRS, SERVICES, LEASES, PODS, ENDPOINT_SLICES)
_PATIENCE = Patience()


def start(
    registry: Registry,
    stop: threading.Event,
    *,
    advertise: tuple[IPv4Address | IPv6Address | str, int],
    patience: Patience = _PATIENCE,
) -> list[threading.Thread]:
    """Start every controller; returns their threads, which end when `stop` is set.

    The system namespaces, the ServiceCIDR and the Service `kubernetes` exist when this returns.
    """
    mirror = Mirror(registry, _KINDS)
    address, port = advertise
    namespaces = Namespaces(registry, mirror)
    api_server = ApiServer(registry, mirror, (ip_address(str(address)), port))
    service_cidrs = ServiceCIDRs(registry, mirror)
    running: list[Running[Any]] = [
        Running(namespaces, mirror),
        Running(api_server, mirror),
        Running(service_cidrs, mirror),
        Running(EndpointSlices(registry, mirror), mirror),
        Running(Scheduler(registry, mirror), mirror),
        Running(NodeLifecycle(registry, mirror, patience), mirror),
        Running(LostPods(registry, mirror), mirror),
        Running(OldEvents(registry), mirror),
    ]
    namespaces.ensure_system()
    service_cidrs.ensure_default()
    api_server.sync("kubernetes")
    threads = [
        threading.Thread(target=mirror.follow, args=(stop,), name="controllers-mirror", daemon=True),
        threading.Thread(target=_stop_all, args=(stop, mirror, running), name="controllers-stop", daemon=True),
        *(each.thread for each in running),
    ]
    for thread in threads:
        thread.start()
    return threads


def _stop_all(stop: threading.Event, mirror: Mirror, running: Sequence[Running[Any]]) -> None:
    stop.wait()
    mirror.wake()
    for each in running:
        each.stop()
