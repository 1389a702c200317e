"""The share of the table that one Service needs: a pure function of its ports, their endpoints and their numbers.

A port has up to two sets of endpoints, the cluster's and this node's; each frontend leads to one of them, and where
externalTrafficPolicy is Local, clients beyond this node are led to the other. A set with a choice to make, or with
clients to keep, has a chain; a single endpoint is an element. A port nobody serves is neither: its cluster IP is known,
its other frontends are, and what no chain took to an endpoint is refused.
"""

from collections.abc import Iterable, Mapping

import msgspec

from dataplane.nft import expressions, values
from dataplane.nft.objects import Element, fit_comment
from dataplane.nft.values import Verdict
from proxy import layout
from proxy import state as states
from proxy.identities import NOBODY, Assignment, Ring
from proxy.model import Network, Scope, ServicePort, Target
from proxy.state import ChainContent, State


class PortPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what stands in the table for one Service port.

    `local` are the targets that may be here. `is_served` says whether anybody in the cluster serves it.
    `allowed_sources` None lets everybody send to its load balancer.
    """

    port: ServicePort
    assignments: Mapping[Scope, Assignment]
    local: frozenset[Target] = frozenset()
    is_served: bool = True
    allowed_sources: tuple[Network, ...] | None = None

    @property
    def is_external_served(self) -> bool:
        return bool(self.of(Scope.CLUSTER).members)

    @property
    def is_divided(self) -> bool:
        """Whether its frontends lead to different sets of endpoints."""
        return len(self.assignments) > 1

    @property
    def number(self) -> int:
        """The mark by which clients are remembered, whichever frontend they come by."""
        ids = (member.id for assignment in self.assignments.values() for member in assignment.members)
        return layout.port_number(min(ids))

    @property
    def has_turns(self) -> bool:
        return any(assignment.first is not None for assignment in self.assignments.values())

    def of(self, scope: Scope) -> Assignment:
        return self.assignments.get(scope, NOBODY)


def ring(port: ServicePort, scope: Scope, endpoint_count: int) -> Ring:
    """A single endpoint needs no turns, but affinity must remember who came while it was alone.

    Only frontends with an address have a map for single endpoints.
    """
    has_affinity = port.affinity_seconds is not None
    is_led_by_verdict = port.node_port if scope is Scope.CLUSTER else port.external_local
    if not endpoint_count or (endpoint_count == 1 and not (has_affinity or is_led_by_verdict)):
        return Ring.NONE
    return Ring.OWN if has_affinity or len(port.scopes) > 1 else Ring.ANY


def render(plans: Iterable[PortPlan]) -> State:
    """Render the ports of one Service."""
    share = states.empty()
    for plan in plans:
        comment = fit_comment(str(plan.port.name))
        share.add(layout.CLUSTER_IPS, _cluster_ip(plan.port))
        _add_chains(share, plan, comment)
        _add_frontends(share, plan, comment)
        for assignment in plan.assignments.values():
            _add_endpoints(share, plan, assignment, comment)
        _add_affinity(share, plan, comment)
        _add_sources(share, plan, comment)
    return share


def _cluster_ip(port: ServicePort) -> Element:
    return Element(port.cluster_ip.packed, comment=fit_comment(str(port.name.service)))


def _add_chains(share: State, plan: PortPlan, comment: str) -> None:
    for scope, assignment in plan.assignments.items():
        if assignment.first is not None:
            content = ChainContent(_rules(plan, scope, assignment), comment)
            share.chains[layout.chain_name(plan.port.name, scope)] = content


def _rules(plan: PortPlan, scope: Scope, assignment: Assignment) -> states.Rules:
    seconds = plan.port.affinity_seconds
    turn = expressions.ct_mark_set_numgen(len(assignment.members), assignment.positions.start)
    if seconds is None:
        return turn, expressions.goto(layout.PICK)
    sticky = layout.sticky_chain(seconds, scope if plan.is_divided else None)
    return expressions.ct_mark_set_jump(plan.number, sticky), turn, expressions.goto(layout.stick_chain(seconds))


def _add_frontends(share: State, plan: PortPlan, comment: str) -> None:
    port = plan.port
    internal = Scope.LOCAL if port.local_only else Scope.CLUSTER
    _lead(share, plan, internal, layout.frontend(port), comment)
    for address in port.external_addresses:
        key = layout.frontend(port, address)
        if not plan.is_external_served:
            share.add(layout.NO_ENDPOINTS, Element(key, comment=comment))
            continue
        _lead(share, plan, Scope.CLUSTER, key, comment)
        share.add(layout.SERVED_EXTERNALS, Element(key, comment=comment))
        if port.external_local:
            share.add(layout.OUTSIDE, Element(key, _verdict(plan, Scope.LOCAL), comment))
    if port.node_port:
        _add_node_port(share, plan, comment)


def _add_node_port(share: State, plan: PortPlan, comment: str) -> None:
    key = layout.node_port(plan.port)
    if not plan.is_external_served:
        share.add(layout.NO_ENDPOINTS_NODE_PORTS, Element(key, comment=comment))
        return
    share.add(layout.NODE_PORTS, Element(key, _verdict(plan, Scope.CLUSTER), comment))
    share.add(layout.SERVED_NODE_PORTS, Element(key, comment=comment))
    if plan.port.external_local:
        share.add(layout.OUTSIDE_NODE_PORTS, Element(key, _verdict(plan, Scope.LOCAL), comment))


def _lead(share: State, plan: PortPlan, scope: Scope, key: bytes, comment: str) -> None:
    assignment = plan.of(scope)
    if assignment.members and assignment.first is None:
        share.add(layout.SINGLE_ENDPOINT, Element(key, values.mark(assignment.members[0].id), comment))
    elif assignment.members or plan.is_served:
        share.add(layout.SERVICES, Element(key, _verdict(plan, scope), comment))


def _verdict(plan: PortPlan, scope: Scope) -> Verdict:
    """Clients of a node without an endpoint must not be told that nobody is there: others serve."""
    if not plan.of(scope).members:
        return Verdict("drop")
    return Verdict("goto", layout.chain_name(plan.port.name, scope))


def _add_endpoints(share: State, plan: PortPlan, assignment: Assignment, comment: str) -> None:
    members = assignment.members
    marks = [values.mark(member.id) for member in members]
    share.add(
        layout.ENDPOINTS,
        *[
            Element(mark, layout.target_value(member.target), comment)
            for mark, member in zip(marks, members, strict=True)
        ],
    )
    share.add(
        layout.RING,
        *[Element(values.mark(position), values.mark(id_)) for position, id_ in assignment.places],
    )
    if plan.local:
        share.add(
            layout.HAIRPIN,
            *[
                Element(layout.hairpin_key(mark, member.target), comment=comment)
                for mark, member in zip(marks, members, strict=True)
                if member.target in plan.local
            ],
        )
    if plan.port.external_local and plan.port.is_external:
        share.add(layout.KEEP_SOURCE, *[Element(mark, comment=comment) for mark in marks])


def _add_affinity(share: State, plan: PortPlan, comment: str) -> None:
    if plan.port.affinity_seconds is None:
        return
    anybody = plan.of(Scope.LOCAL).members or plan.of(Scope.CLUSTER).members
    if anybody:
        # For the packet whose entry was deleted by another between being written and being read.
        share.add(layout.RING, Element(values.mark(plan.number), values.mark(anybody[0].id), comment))
    for scope, assignment in plan.assignments.items():
        for member in assignment.members if plan.is_divided else ():
            share.add(layout.KEPT[scope], Element(values.mark(member.id), comment=comment))


def _add_sources(share: State, plan: PortPlan, comment: str) -> None:
    if plan.allowed_sources is None:
        return
    for address in plan.port.load_balancer_ips:
        key = layout.frontend(plan.port, address)
        share.add(layout.FIREWALLED, Element(key, comment=comment))
        for network in plan.allowed_sources:
            first, last = network.network_address.packed, network.broadcast_address.packed
            share.add(layout.ALLOWED_SOURCES, Element(key + first, comment=comment, end=key + last))
