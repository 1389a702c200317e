"""UDP flows that go where nobody answers any more are forgotten, so that their next packet is sent anew.

A UDP client may keep one socket for months, and conntrack keeps what the first packet got: an endpoint that is gone, or
no endpoint at all if the Service came later than its client. A flow to a Service is stale exactly when who answers it
is none of the targets that still do. That needs no memory of what was removed, so it also holds after a restart, for a
Service without endpoints and for one that is deleted. TCP connections are left alone: their ends learn by themselves.

All this happens beside the sync, in a thread of its own.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import structlog

from dataplane.conntrack import Flow
from kube.control import ControlLoop
from proxy.model import Address, Target
from proxy.planning import Frontend

log = structlog.get_logger(__name__)

# A packet that met the table just before a change may enter conntrack just after the first look.
_SECOND_LOOK_SECONDS: Final = 1.0
_SINGLE_DUMPS_MAX: Final = 16  # from there on, one dump of all UDP flows is cheaper


class Connections(Protocol):
    """What is asked of dataplane.conntrack."""

    def udp_flows(self, version: int, *, destination: Address | None = None) -> Iterable[Flow]: ...

    def delete(self, flow: Flow) -> bool: ...


def is_stale(flow: Flow, answering: Mapping[Frontend, frozenset[Target]]) -> bool:
    """Whether a flow to one of these frontends is answered by somebody who does not."""
    targets = answering.get(Frontend(flow.destination, flow.destination_port))
    return targets is not None and Target(flow.replier.packed, flow.replier_port) not in targets


class StaleFlows:
    """Keeps the flows of UDP frontends to their targets. `expect` and `stop` may be called from any thread."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._loop: ControlLoop[Frontend] = ControlLoop("udp-flows")
        self._lock = threading.Lock()  # guards the two below: what is expected changes while a sweep goes on
        self._answering: dict[Frontend, frozenset[Target]] = {}
        self._seen_once: set[Frontend] = set()

    def expect(self, frontend: Frontend, targets: frozenset[Target]) -> None:
        """From now on, these alone answer this frontend."""
        with self._lock:
            self._answering[frontend] = targets
            self._seen_once.discard(frontend)
        self._loop.mark(frontend)

    def run(self) -> None:
        """Work until `stop`."""
        self._loop.run(self.sweep)

    def run_due(self) -> None:
        """Do what is due now."""
        self._loop.run_due(self.sweep)

    def stop(self) -> None:
        self._loop.stop()

    def sweep(self, frontends: frozenset[Frontend]) -> None:
        """Delete the stale flows of these frontends. Raises DataplaneError."""
        with self._lock:
            answering = {frontend: self._answering[frontend] for frontend in frontends if frontend in self._answering}
        deleted = sum(self._connections.delete(flow) for flow in self._flows(frontends) if is_stale(flow, answering))
        if deleted:
            log.info("stale UDP flows deleted", flows=deleted, frontends=len(frontends))
        for frontend, targets in answering.items():
            self._plan_second_look(frontend, targets)

    def _flows(self, frontends: Iterable[Frontend]) -> Iterable[Flow]:
        destinations = {frontend.address for frontend in frontends}
        if len(destinations) > _SINGLE_DUMPS_MAX:
            for version in {address.version for address in destinations}:
                yield from self._connections.udp_flows(version)
            return
        for address in destinations:
            yield from self._connections.udp_flows(address.version, destination=address)

    def _plan_second_look(self, frontend: Frontend, targets: frozenset[Target]) -> None:
        with self._lock:
            if self._answering.get(frontend) != targets:
                return  # others answer meanwhile: that is a first look of its own, already marked
            if frontend in self._seen_once:
                self._seen_once.discard(frontend)
                del self._answering[frontend]
                return
            self._seen_once.add(frontend)
        self._loop.mark(frontend, after=_SECOND_LOOK_SECONDS)
