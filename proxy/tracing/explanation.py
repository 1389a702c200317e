"""Why a packet goes where it goes: a trace, put beside what the API says of the Service it was sent to.

What happens is the trace's alone, rule by rule. The reasons are read off the objects; where the two do not fit, the
rule that decided is still named.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum

import msgspec

from proxy import topology
from proxy.here import Here
from proxy.model import Address, Endpoint, ServicePort, Target
from proxy.tracing.desired import Desired
from proxy.tracing.machine import Fate, Trace, trace_turns
from proxy.tracing.packet import Host, Origin, Packet
from proxy.tracing.table import Rules


class Way(Enum):
    """By which address of a Service a packet comes."""

    CLUSTER_IP = "cluster IP"
    EXTERNAL_IP = "externalIP"
    LOAD_BALANCER = "load balancer address"
    NODE_PORT = "node port"


class Frontend(msgspec.Struct, frozen=True):
    way: Way
    port: ServicePort


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint of the Service port. `share` of all turns are its; without one, `reason` says why.

    `source` is the address it would see, None for one of the node's own, by reason of `masquerade`.
    """

    endpoint: Endpoint
    share: int = 0
    reason: str = ""
    source: Address | None = None
    masquerade: str = ""
    path: tuple[str, ...] = ()


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    packet: Packet
    here: Here
    fate: Fate
    frontend: Frontend | None
    branch: str
    candidates: tuple[Candidate, ...]
    turns: int
    is_kept: bool
    reason: str
    path: tuple[str, ...]
    """The rules that applied, up to the first choice's end."""

    @property
    def chosen(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if candidate.share)


def explain(desired: Desired, packet: Packet, *, rules: Rules | None = None, host: Host | None = None) -> Explanation:
    """Explain a packet by what should be in the table, or by `rules`, what is in it."""
    table = rules or Rules(desired.chains, desired.state)
    traces = trace_turns(table, host or desired.host, packet)
    front = frontend(desired, packet, host or desired.host)
    first = traces[0]
    return Explanation(
        packet=packet,
        here=desired.here,
        fate=first.fate,
        frontend=front,
        branch=_branch(desired, front, packet),
        candidates=tuple(_candidates(desired, front, packet, traces)),
        turns=first.turns,
        is_kept=first.is_kept,
        reason=_reason(desired, front, packet, first),
        path=tuple(map(str, first.steps)),
    )


def frontend(desired: Desired, packet: Packet, host: Host) -> Frontend | None:
    """The Service port a packet is sent to, as the objects have it."""
    ways = (
        Frontend(way, port)
        for port in desired.ports
        if port.name.protocol == packet.protocol
        for way in _ways(port, packet, is_to_node=_has_node_ports(desired.here, packet, host))
    )
    return next(ways, None)


def _ways(port: ServicePort, packet: Packet, *, is_to_node: bool) -> Iterator[Way]:
    if packet.port == port.port:
        for way, addresses in (
            (Way.CLUSTER_IP, (port.cluster_ip,)),
            (Way.EXTERNAL_IP, port.external_ips),
            (Way.LOAD_BALANCER, port.load_balancer_ips),
        ):
            if packet.destination in addresses:
                yield way
    if port.node_port and port.node_port == packet.port and is_to_node:
        yield Way.NODE_PORT


def _has_node_ports(here: Here, packet: Packet, host: Host) -> bool:
    if packet.destination.is_loopback:
        return packet.is_from_node and here.localhost_node_ports
    return host.has(packet.destination) and any(packet.destination in network for network in here.nodeport_addresses)


def _branch(desired: Desired, front: Frontend | None, packet: Packet) -> str:
    if front is None:
        return ""
    port, here = front.port, desired.here
    if front.way is Way.CLUSTER_IP:
        return f"internalTrafficPolicy {'Local: endpoints on ' + here.node if port.local_only else 'Cluster: all endpoints'}"
    if not port.external_local:
        return "externalTrafficPolicy Cluster: all endpoints"
    if packet.origin is Origin.OUTSIDE:
        return f"externalTrafficPolicy Local: endpoints on {here.node}"
    return f"externalTrafficPolicy Local, but it comes from {packet.origin.value}: all endpoints"


def _is_local(front: Frontend, packet: Packet) -> bool:
    if front.way is Way.CLUSTER_IP:
        return front.port.local_only
    return front.port.external_local and packet.origin is Origin.OUTSIDE


def _candidates(
    desired: Desired, front: Frontend | None, packet: Packet, traces: tuple[Trace, ...]
) -> Iterator[Candidate]:
    by_target = {trace.target: trace for trace in traces if trace.fate == "translated"}
    shares = Counter(trace.target for trace in traces if trace.fate == "translated")
    known = desired.endpoints(front.port) if front else ()
    told = {endpoint.target for endpoint in known}
    # What the kernel's table leads to, though the API does not speak of it.
    strangers = (Endpoint(target=target) for target in by_target if target and target not in told)
    for endpoint in (*known, *strangers):
        trace = by_target.get(endpoint.target)
        if trace is None:
            reason = _left_out(desired, front, packet, endpoint, shares) if front else ""
            yield Candidate(endpoint=endpoint, reason=reason)
            continue
        is_hidden = trace.masqueraded_by is not None
        yield Candidate(
            endpoint=endpoint,
            share=shares[endpoint.target],
            source=None if is_hidden else packet.source,
            masquerade=_masquerade(desired, front, packet, endpoint.target) if is_hidden else "",
            path=tuple(map(str, trace.steps)),
        )


def _left_out(
    desired: Desired, front: Frontend, packet: Packet, endpoint: Endpoint, shares: Counter[Target | None]
) -> str:
    is_local = _is_local(front, packet)
    if not endpoint.ready and not (endpoint.serving and endpoint.terminating):
        return "is not ready" if not endpoint.terminating else "is ending and serves no longer"
    if is_local and endpoint.node != desired.here.node:
        return f"is not on {desired.here.node}"
    if not endpoint.ready:
        return "is ending, and others are ready"
    if not is_local and not _is_near(desired, front, endpoint):
        return "is meant for other zones or nodes by its hints"
    return "weighs nothing" if endpoint.weight == 0 else _without_turn(shares)


def _without_turn(shares: Counter[Target | None]) -> str:
    return "has no turn in the table" if shares else "is not reached"


def _is_near(desired: Desired, front: Frontend, endpoint: Endpoint) -> bool:
    everyone = desired.endpoints(front.port)
    choice = topology.choose(everyone, node=desired.here.node, zone=desired.here.zone)
    return endpoint in choice.cluster


def _masquerade(desired: Desired, front: Frontend | None, packet: Packet, target: Target) -> str:
    if packet.is_from_node:
        return "what the node itself sends must come back to it"
    if target.packed == packet.source.packed:
        return "an endpoint that reaches itself would answer itself"
    if front is None or front.way is not Way.CLUSTER_IP:
        return "externalTrafficPolicy Cluster: the answer must come back through this node"
    if desired.here.masquerade_all:
        return "the proxy masquerades all (--masquerade-all)"
    return "its client is no pod of this node"


def _reason(desired: Desired, front: Frontend | None, packet: Packet, trace: Trace) -> str:
    """Why the packet is dropped, refused or left alone; empty if it reaches somebody."""
    match trace.fate:
        case "translated":
            return ""
        case "passed" if front is not None:
            return "no endpoint in the cluster serves it, and there the packet is the node's own"
        case "passed":
            return "no Service is served there: podwire-proxy leaves the packet as it is"
        case "dropped":
            return _drop(desired, front, packet)
        case _:
            return _refusal(desired, front, packet)


def _drop(desired: Desired, front: Frontend | None, packet: Packet) -> str:
    if front is None:
        return "no Service has this address of a Service CIDR"
    ranges = front.port.source_ranges
    if front.way is Way.LOAD_BALANCER and ranges is not None and not any(packet.source in each for each in ranges):
        return f"{packet.source} is in none of spec.loadBalancerSourceRanges"
    return f"the policy is Local and no endpoint is on {desired.here.node}; others serve"


def _refusal(desired: Desired, front: Frontend | None, packet: Packet) -> str:
    if front is not None:
        return "no endpoint in the cluster serves it"
    owners = _owners(desired.ports, packet.destination)
    what = f"port {packet.port}/{packet.protocol}" if packet.port else packet.protocol
    return f"Service {owners} has no {what}" if owners else "podwire-proxy refuses it"


def _owners(ports: Iterable[ServicePort], cluster_ip: Address) -> str:
    return ", ".join(sorted({str(port.name.service) for port in ports if port.cluster_ip == cluster_ip}))
