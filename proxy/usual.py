"""The usual Service in one go: a cluster IP, one port, ready endpoints and nothing else.

Most Services are no more than that, and a start with 10,000 of them waits for each step that only the others need. What is
not usual is None here, and drafted step by step: `model`, `topology`, `render`. The outcome is the same either way;
tests/unit/test_proxy_usual.py holds one against the other.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from dataplane.nft import expressions, values
from dataplane.nft.objects import Element, fit_comment
from dataplane.nft.values import Verdict
from kube import objects
from proxy import addresses, layout, model, restart
from proxy.identities import Assignment, Member, Ring
from proxy.model import Family, ServiceName, ServicePortName, Target
from proxy.state import ChainContent, State

_PICK: Final = expressions.goto(layout.PICK)
_NO_STATUS: Final = objects.ServiceStatus()


class UsualPort(msgspec.Struct, frozen=True, gc=False):
    """A Service port that every client reaches at its cluster IP only, and by turns; at least one target serves it.

    Targets are sorted, each once; `local` are those that may be on this node.
    """

    name: ServicePortName
    cluster_ip: bytes
    port: int
    targets: tuple[Target, ...]
    local: frozenset[Target]

    @property
    def frontend(self) -> bytes:
        return self.cluster_ip + layout.protocol_and_port(self.name.protocol, self.port)

    @property
    def ring(self) -> Ring:
        return Ring.ANY if len(self.targets) > 1 else Ring.NONE


def read(
    service: objects.Service, slices: Iterable[objects.EndpointSlice], *, family: Family, node: str
) -> UsualPort | None:
    """The port of a usual Service on the node of this name; None for any other Service, or one that cannot be read."""
    if not _is_usual(service):
        return None
    version = model.VERSIONS[family]
    text = model.spelled_cluster_ip(service, family)
    packed = addresses.packed_address(text, version) if text else None
    port, metadata = service.spec.ports[0], service.metadata
    if packed is None or not 0 < port.port < 65536:
        return None
    name = ServicePortName(ServiceName(metadata.namespace, metadata.name), port.name, port.protocol)
    here: list[Target] = []
    targets: list[Target] = []
    for each in slices:
        if model.VERSIONS_OF_SLICES.get(each.address_type) == version and not _add(targets, here, each, name, node):
            return None
    if not targets or len(set(targets)) < len(targets):
        return None
    return UsualPort(name, packed, port.port, tuple(sorted(targets)), frozenset(here))


def _is_usual(service: objects.Service) -> bool:
    spec = service.spec
    return (
        spec.type == "ClusterIP"
        and len(spec.ports) == 1
        and spec.ports[0].node_port == 0
        and spec.session_affinity == "None"
        and spec.internal_traffic_policy == "Cluster"
        and not spec.external_ips
        and not spec.load_balancer_source_ranges
        and spec.health_check_node_port == 0
        and service.status == _NO_STATUS
    )


def _add(
    targets: list[Target], here: list[Target], endpoint_slice: objects.EndpointSlice, name: ServicePortName, node: str
) -> bool:
    """Add the endpoints of one slice; False if one of them asks for more than a turn."""
    annotations, version = endpoint_slice.metadata.annotations, model.VERSIONS_OF_SLICES[endpoint_slice.address_type]
    if annotations and model.WEIGHTS in annotations:
        return False
    for number in model.target_ports(endpoint_slice, name):
        for endpoint in endpoint_slice.endpoints or ():
            if endpoint.hints is not None or endpoint.conditions.ready is False:
                return False
            packed = addresses.packed_address(endpoint.addresses[0], version) if endpoint.addresses else None
            if packed is not None:
                target = Target(packed, number)
                targets.append(target)
                if not endpoint.node_name or endpoint.node_name == node:
                    here.append(target)
    return True


def render(port: UsualPort, assignment: Assignment) -> State:
    """The share of the table that this Service needs."""
    return State(
        {
            set_name: {element.key: element for element in elements}
            for set_name, elements in _elements(port, assignment)
        },
        _chains(port, assignment),
    )


def size(port: UsualPort, assignment: Assignment) -> int:
    """How many elements and chains that is."""
    turns = 0 if assignment.first is None else 1 + len(assignment.places)
    return 2 + turns + len(assignment.members) + len(port.local)


def standing(found: State, port: UsualPort) -> Assignment | None:
    """Its endpoints, ids and turns as a table has them, if that has all of it just as `render` would make it for these."""
    comment = fit_comment(str(port.name))
    cluster_ip = Element(port.cluster_ip, None, fit_comment(str(port.name.service)))
    if found.find(layout.CLUSTER_IPS, port.cluster_ip) != cluster_ip:
        return None
    assignment = _led_to(found, port, comment)
    if assignment is None:
        return None
    hairpins = _hairpins(port, assignment, comment) if port.local else ()
    asides = [(layout.HAIRPIN, each) for each in hairpins] + [(layout.RING, each) for each in _ring(assignment)]
    return assignment if all(found.find(name, each.key) == each for name, each in asides) else None


def _led_to(found: State, port: UsualPort, comment: str) -> Assignment | None:
    frontend = port.frontend
    if port.ring is Ring.NONE:
        lead = found.find(layout.SINGLE_ENDPOINT, frontend)
        return _assignment(found, port, comment, (lead.value,), None) if lead and lead.comment == comment else None
    chain = layout.chain_name(port.name)
    lead, content = found.find(layout.SERVICES, frontend), found.chains.get(chain)
    if content is None or lead != Element(frontend, Verdict("goto", chain), comment):
        return None
    turn = restart.turn(content)
    if turn is None or content != _content(len(port.targets), turn.offset, comment):
        return None
    places = range(turn.offset, turn.offset + turn.modulus)
    return _assignment(found, port, comment, restart.standing_at(found, places), turn.offset)


def _assignment(
    found: State, port: UsualPort, comment: str, marks: Iterable[bytes | Verdict | None], first: int | None
) -> Assignment | None:
    endpoints = found.elements.get(layout.ENDPOINTS, {})
    wanted = {layout.target_value(target): target for target in port.targets}
    members: list[Member] = []
    for mark in marks:
        element = endpoints.get(mark) if isinstance(mark, bytes) else None
        if element is None or element.comment != comment or not isinstance(element.value, bytes):
            return None
        target = wanted.pop(element.value, None)
        if target is None:
            return None
        members.append(Member(target, values.mark_number(element.key)))
    return Assignment(tuple(members), first, first is not None and first in layout.ENDPOINT_IDS)


def _elements(port: UsualPort, assignment: Assignment) -> Iterator[tuple[str, list[Element]]]:
    """By the set they are in."""
    comment, frontend, members = fit_comment(str(port.name)), port.frontend, assignment.members
    marks = [values.mark(member.id) for member in members]
    yield layout.CLUSTER_IPS, [Element(port.cluster_ip, None, fit_comment(str(port.name.service)))]
    if assignment.first is None:
        yield layout.SINGLE_ENDPOINT, [Element(frontend, marks[0], comment)]
    else:
        yield layout.SERVICES, [Element(frontend, Verdict("goto", layout.chain_name(port.name)), comment)]
    if ring := _ring(assignment):
        yield layout.RING, ring
    yield (
        layout.ENDPOINTS,
        [
            Element(mark, layout.target_value(member.target), comment)
            for mark, member in zip(marks, members, strict=True)
        ],
    )
    if port.local:
        yield layout.HAIRPIN, _hairpins(port, assignment, comment)


def _ring(assignment: Assignment) -> list[Element]:
    if assignment.first is None:
        return []
    return [Element(values.mark(place), values.mark(id_)) for place, id_ in assignment.places]


def _hairpins(port: UsualPort, assignment: Assignment, comment: str) -> list[Element]:
    here = [member for member in assignment.members if member.target in port.local]
    return [Element(layout.hairpin_key(values.mark(member.id), member.target), None, comment) for member in here]


def _chains(port: UsualPort, assignment: Assignment) -> dict[str, ChainContent]:
    if assignment.first is None:
        return {}
    content = _content(len(assignment.members), assignment.first, fit_comment(str(port.name)))
    return {layout.chain_name(port.name): content}


def _content(endpoints: int, first: int, comment: str) -> ChainContent:
    return ChainContent((expressions.ct_mark_set_numgen(endpoints, first), _PICK), comment)
