"""An explanation in words, for people, and as plain values for programs."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from proxy.model import Endpoint, Target
from proxy.tracing.drift import Drift
from proxy.tracing.explanation import Candidate, Explanation, Way
from proxy.tracing.packet import Packet

_SHOWN_MAX: Final = 20
_FATES: Final = {"passed": "left alone", "refused": "refused", "dropped": "dropped"}


def lines(explanation: Explanation, *, is_long: bool = False) -> Iterator[str]:
    """Tell it; with the rules that applied if `is_long`."""
    packet = explanation.packet
    yield f"{packet.source} ({packet.origin.value}) → {_destination(packet)}, on node {explanation.here.node}"
    for title, entries in _sections(explanation, is_long=is_long):
        for index, entry in enumerate(entries):
            yield f"  {'' if index else title:<10} {entry}"
    yield f"  {'Result':<10} {result(explanation)}"


def result(explanation: Explanation) -> str:
    """What becomes of the packet, in one line."""
    if explanation.fate != "translated":
        return f"{_FATES[explanation.fate]}: {explanation.reason}"
    chosen = explanation.chosen
    if explanation.is_kept:
        return f"goes to {chosen[0].endpoint.target}, where session affinity keeps this client"
    if len(chosen) == 1:
        return f"goes to {chosen[0].endpoint.target}"
    return f"goes to one of {len(chosen)} endpoints, in strict turn"


def drift_lines(drifts: Iterable[Drift]) -> Iterator[str]:
    for drift in drifts:
        yield f"  {drift.place}"
        yield f"    should be  {drift.should}"
        yield f"    is         {drift.found}"


def _destination(packet: Packet) -> str:
    if not packet.port:
        return f"{packet.destination}/{packet.protocol}"
    return f"{Target(packet.destination.packed, packet.port)}/{packet.protocol}"


def _sections(explanation: Explanation, *, is_long: bool) -> Iterator[tuple[str, list[str]]]:
    front = explanation.frontend
    if front is not None:
        address = "" if front.way is Way.NODE_PORT else f" {explanation.packet.destination}"
        port = front.port.node_port if front.way is Way.NODE_PORT else front.port.port
        yield "Service", [f"{front.port.name} by its {front.way.value}{address} port {port}"]
        yield "Policy", [explanation.branch]
        if front.port.affinity_seconds is not None:
            yield "Affinity", [f"ClientIP, for {front.port.affinity_seconds} s from a client's last new connection"]
    yield "Endpoints", list(_endpoints(explanation))
    if is_long:
        yield "Rules", list(explanation.path)


def _endpoints(explanation: Explanation) -> Iterator[str]:
    # Who is reached is told first.
    ordered = sorted(explanation.candidates, key=lambda candidate: not candidate.share)
    for candidate in ordered[:_SHOWN_MAX]:
        yield f"{candidate.endpoint.target!s:<22} {_where(candidate.endpoint)}: {_part(explanation, candidate)}"
    if len(ordered) > _SHOWN_MAX:
        yield f"… and {len(ordered) - _SHOWN_MAX} more"


def _where(endpoint: Endpoint) -> str:
    return f"on {endpoint.node}" if endpoint.node else "on an unnamed node"


def _part(explanation: Explanation, candidate: Candidate) -> str:
    if not candidate.share:
        return f"left out, {candidate.reason}" if candidate.reason else "left out"
    turns = f"{candidate.share} of {explanation.turns} turns, " if explanation.turns > 1 else ""
    if candidate.source is not None:
        return f"{turns}sees {candidate.source}"
    return f"{turns}sees the node's address: {candidate.masquerade}"


def to_builtins(explanation: Explanation) -> dict[str, Any]:
    """The same as plain values."""
    packet, front = explanation.packet, explanation.frontend
    return {
        "packet": {
            "source": str(packet.source),
            "destination": str(packet.destination),
            "protocol": packet.protocol,
            "port": packet.port,
            "origin": packet.origin.name.lower(),
        },
        "node": explanation.here.node,
        "result": explanation.fate,
        "reason": explanation.reason,
        "service": str(front.port.name.service) if front else None,
        "servicePort": front.port.name.port if front else None,
        "frontend": front.way.value if front else None,
        "policy": explanation.branch,
        "affinitySeconds": front.port.affinity_seconds if front else None,
        "keptByAffinity": explanation.is_kept,
        "turns": explanation.turns,
        "endpoints": [_candidate_to_builtins(candidate) for candidate in explanation.candidates],
        "rules": list(explanation.path),
    }


def _candidate_to_builtins(candidate: Candidate) -> dict[str, Any]:
    endpoint = candidate.endpoint
    return {
        "address": str(endpoint.target.address),
        "port": endpoint.target.port,
        "node": endpoint.node,
        "turns": candidate.share,
        "leftOut": candidate.reason,
        "source": str(candidate.source) if candidate.source is not None else None,
        "masquerade": candidate.masquerade,
    }


def drifts_to_builtins(drifts: Iterable[Drift]) -> list[dict[str, str]]:
    return [{"place": drift.place, "should": drift.should, "is": drift.found} for drift in drifts]
