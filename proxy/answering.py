"""Who still answers what was sent to a Service, and what becomes of TCP connections to who does not any more.

A pure function of the Service and its slices. An endpoint answers as long as its slices have it and call it ready or
serving; that it takes no new connections ends none.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from dataplane.conntrack import Flow
from kube import objects
from proxy import durations, layout, model, topology
from proxy.model import Address, Family, ServiceName, ServicePort, Target

ANNOTATION: Final = "podwire.dev/on-endpoint-removal"
FIELD: Final = f"metadata.annotations[{ANNOTATION}]"
KEEP: Final = "keep"
RESET: Final = "reset"
DRAIN: Final = "drain="
LONGEST_DRAIN: Final = 7 * 86400.0

TCP: Final = layout.PROTOCOL_NUMBERS["TCP"]
UDP: Final = layout.PROTOCOL_NUMBERS["UDP"]


class Front(NamedTuple):
    """What clients send to. Without an address it is a node port, at whatever address of the node."""

    protocol: int
    address: Address | None
    port: int


class Answering(msgspec.Struct, frozen=True):
    """`drain` is how many seconds a TCP connection goes on when its target is none of these any more; None: no end."""

    targets: frozenset[Target]
    drain: float | None = None


NOBODY: Final = Answering(frozenset())


def drain_seconds(text: str) -> float | None:
    """What the annotation says. Raises ValueError."""
    if text in {"", KEEP}:
        return None
    if text == RESET:
        return 0.0
    problem = f"must be {KEEP}, {RESET} or {DRAIN}DURATION, such as {DRAIN}30s, at most {DRAIN}168h"
    if not text.startswith(DRAIN):
        raise ValueError(problem)
    try:
        seconds = float(durations.parse(text.removeprefix(DRAIN)))
    except ValueError as error:
        raise ValueError(problem) from error
    if not 0 <= seconds <= LONGEST_DRAIN:
        raise ValueError(problem)
    return seconds


def fronts(
    service: objects.Service, slices: Iterable[objects.EndpointSlice], family: Family
) -> Mapping[Front, Answering]:
    """Who answers at each of a Service's ways in whose connections are looked after. Raises InvalidService."""
    drain, known = _drain(service), tuple(slices)
    if drain is None and all(port.protocol != "UDP" for port in service.spec.ports):
        return {}  # most Services of a large cluster
    found: dict[Front, Answering] = {}
    for port in model.service_ports(service, family):
        protocol = layout.PROTOCOL_NUMBERS[port.name.protocol]
        if protocol == UDP or (protocol == TCP and drain is not None):
            targets = topology.answering(model.endpoints(known, port))
            answering = Answering(targets, drain if protocol == TCP else None)
            found |= dict.fromkeys(_ways_in(port, protocol), answering)
    return found


def complaint(service: objects.Service) -> str:
    """What is wrong with the annotation; empty if nothing is."""
    text = _annotation(service)
    try:
        drain_seconds(text)
    except ValueError as error:
        return f"{FIELD} {text!r}: {error}; connections are kept"
    return ""


def keeps(service: objects.Service) -> bool:
    """Whether TCP connections of this Service go on whatever becomes of their endpoints."""
    return _drain(service) is None


def _annotation(service: objects.Service) -> str:
    annotations = service.metadata.annotations
    return annotations.on_endpoint_removal if annotations else ""


def _drain(service: objects.Service) -> float | None:
    if not _annotation(service):
        return None
    return None if complaint(service) else drain_seconds(_annotation(service))


def _ways_in(port: ServicePort, protocol: int) -> Iterator[Front]:
    for address in (port.cluster_ip, *port.external_addresses):
        yield Front(protocol, address, port.port)
    if port.node_port:
        yield Front(protocol, None, port.node_port)


class Expected:
    """Who answers where, of all Services. Not for two threads at once."""

    def __init__(self) -> None:
        self._services: dict[ServiceName, Mapping[Front, Answering]] = {}
        self._fronts: dict[Front, Answering] = {}
        self._parting: dict[Front, Answering] = {}

    def names(self) -> Collection[ServiceName]:
        return self._services.keys()

    def protocols(self) -> frozenset[int]:
        """Of the fronts there are, or were just now."""
        return frozenset(front.protocol for front in (*self._fronts, *self._parting))

    def update(self, name: ServiceName, new: Mapping[Front, Answering], *, ends: bool = False) -> frozenset[Front]:
        """Take in what is expected of a Service now; returns the fronts for which that is something else.

        `ends` says that at fronts it no longer has connections end as it wished.
        """
        old = self._services.pop(name, {})
        if not old and not new:
            return frozenset()
        if new:
            self._services[name] = new
        changed = frozenset(front for front in {**old, **new} if old.get(front) != new.get(front))
        for front in changed:
            if front in new:
                self._fronts[front] = new[front]
                self._parting.pop(front, None)
            elif self._fronts.pop(front, NOBODY).drain is not None and ends:
                self._parting[front] = Answering(frozenset(), old[front].drain)
        return changed

    def settled(self, fronts: Iterable[Front]) -> None:
        """What was to be done about fronts that are gone is done."""
        for front in fronts:
            self._parting.pop(front, None)

    def front_of(self, flow: Flow) -> Front | None:
        """The way by which a flow came in."""
        own = Front(flow.protocol, flow.destination, flow.destination_port)
        for front in (own, own._replace(address=None)):
            if front in self._fronts or front in self._parting:
                return front
        return None

    def of(self, front: Front | None) -> Answering | None:
        if front is None:
            return None
        return self._fronts.get(front) or self._parting.get(front)


def is_answered(flow: Flow, answering: Answering) -> bool:
    return Target(flow.replier.packed, flow.replier_port) in answering.targets
