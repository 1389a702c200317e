"""The share of the table that one Service needs: a pure function of its ports, their endpoints and their numbers.

A port with a choice to make, or with clients to keep, has a chain; a port with a single endpoint is an element. A port
nobody serves is neither: its cluster IP is known, and what no chain took to an endpoint is refused.
"""

from collections.abc import Iterable

import msgspec

from dataplane.nft import expressions, values
from dataplane.nft.objects import Element, fit_comment
from dataplane.nft.values import Verdict
from proxy import layout
from proxy import state as states
from proxy.identities import Assignment
from proxy.model import ServicePort, Target
from proxy.state import ChainContent, State
from proxy.topology import Refusal


class PortPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what stands in the table for one Service port. `local` are the targets that may be here."""

    port: ServicePort
    assignment: Assignment
    local: frozenset[Target] = frozenset()
    refusal: Refusal | None = None


def needs_ring(port: ServicePort, endpoint_count: int) -> bool:
    """A single endpoint needs no turns, but affinity must remember who came while it was alone."""
    return endpoint_count > 1 or (endpoint_count == 1 and port.affinity_seconds is not None)


def render(plans: Iterable[PortPlan]) -> State:
    """Render the ports of one Service."""
    share = states.empty()
    for plan in plans:
        comment = fit_comment(str(plan.port.name))
        share.add(layout.CLUSTER_IPS, _cluster_ip(plan.port))
        _add_frontend(share, plan, comment)
        _add_endpoints(share, plan, comment)
    return share


def _cluster_ip(port: ServicePort) -> Element:
    return Element(port.cluster_ip.packed, comment=fit_comment(str(port.name.service)))


def _add_frontend(share: State, plan: PortPlan, comment: str) -> None:
    key = layout.frontend(plan.port)
    if plan.refusal is Refusal.DROP:
        share.add(layout.SERVICES, Element(key, Verdict("drop"), comment))
    elif plan.assignment.first is not None:
        chain = layout.chain_name(plan.port.name)
        share.chains[chain] = ChainContent(_rules(plan), comment)
        share.add(layout.SERVICES, Element(key, Verdict("goto", chain), comment))
    elif plan.assignment.members:
        only = plan.assignment.members[0]
        share.add(layout.SINGLE_ENDPOINT, Element(key, values.mark(only.id), comment))


def _rules(plan: PortPlan) -> states.Rules:
    assignment, seconds = plan.assignment, plan.port.affinity_seconds
    turn = expressions.ct_mark_set_numgen(len(assignment.members), assignment.positions.start)
    if seconds is None:
        return turn, expressions.goto(layout.PICK)
    return expressions.jump(layout.sticky_chain(seconds)), turn, expressions.goto(layout.stick_chain(seconds))


def _add_endpoints(share: State, plan: PortPlan, comment: str) -> None:
    for member in plan.assignment.members:
        share.add(layout.ENDPOINTS, Element(values.mark(member.id), layout.target_value(member.target), comment))
        if member.target in plan.local:
            share.add(layout.HAIRPIN, Element(layout.hairpin_key(member.id, member.target), comment=comment))
    for position, member in zip(plan.assignment.positions, plan.assignment.members, strict=False):
        share.add(layout.RING, Element(values.mark(position), values.mark(member.id)))
