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
from proxy import addresses, layout, model
from proxy.identities import Assignment, Ring
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


def stands_in(found: State, port: UsualPort, assignment: Assignment) -> bool:
    """Whether a table has all of it, just like that."""
    for set_name, elements in _elements(port, assignment):
        held = found.elements.get(set_name)
        if held is None or any(held.get(element.key) != element for element in elements):
            return False
    return all(found.chains.get(name) == content for name, content in _chains(port, assignment).items())


def _elements(port: UsualPort, assignment: Assignment) -> Iterator[tuple[str, list[Element]]]:
    """By the set they are in."""
    comment, frontend, members = fit_comment(str(port.name)), port.frontend, assignment.members
    marks = [values.mark(member.id) for member in members]
    yield layout.CLUSTER_IPS, [Element(port.cluster_ip, None, fit_comment(str(port.name.service)))]
    if assignment.first is None:
        yield layout.SINGLE_ENDPOINT, [Element(frontend, marks[0], comment)]
    else:
        yield layout.SERVICES, [Element(frontend, Verdict("goto", layout.chain_name(port.name)), comment)]
    if assignment.first is not None and (places := assignment.places):
        yield layout.RING, [Element(values.mark(place), values.mark(id_)) for place, id_ in places]
    ends = list(zip(marks, members, strict=True))
    yield layout.ENDPOINTS, [Element(mark, layout.target_value(member.target), comment) for mark, member in ends]
    if port.local:
        here = [(mark, member.target) for mark, member in ends if member.target in port.local]
        yield layout.HAIRPIN, [Element(layout.hairpin_key(mark, target), None, comment) for mark, target in here]


def _chains(port: UsualPort, assignment: Assignment) -> dict[str, ChainContent]:
    if assignment.first is None:
        return {}
    turn = expressions.ct_mark_set_numgen(len(assignment.members), assignment.first)
    return {layout.chain_name(port.name): ChainContent((turn, _PICK), fit_comment(str(port.name)))}
