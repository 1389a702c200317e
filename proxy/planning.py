"""From API objects to one Service's share of the table, together with the numbers it takes for that.

A draft is a proposal: nothing of it counts until the kernel has accepted it. Then it is settled, one way or the other,
and the numbers that the losing side had go back.
"""

import ipaddress
import itertools
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from dataplane.nft import values
from kube import objects
from proxy import layout, model, render, restart, topology, turns, usual
from proxy.here import Here
from proxy.identities import NOBODY, Assignment, Identities, NumbersExhausted, Ring, rotated
from proxy.model import (
    Address,
    Endpoint,
    Family,
    InvalidService,
    Network,
    Scope,
    ServiceName,
    ServicePort,
    ServicePortName,
    Target,
)
from proxy.render import PortPlan
from proxy.served import NOT_SERVED, AnyServed, AssignmentName, Draft, Served, UsualServed
from proxy.state import State
from proxy.usual import UsualPort


class Source(Protocol):
    """The API's objects as they are now."""

    def names(self) -> Iterable[ServiceName]: ...

    def service(self, name: ServiceName) -> objects.Service | None: ...

    def slices(self, name: ServiceName) -> Iterable[objects.EndpointSlice]: ...


_SCOPES: Final = tuple(Scope)
_UNKNOWN: Final = dict.fromkeys(_SCOPES, NOBODY)


class Planner:
    """Drafts Services for one node and address family."""

    def __init__(self, source: Source, *, node: str, family: Family, look: Callable[[], Here] | None = None) -> None:
        """`look` tells what is known of the node now; without it, that is its name."""
        self._source = source
        self._node = node
        self._look = look or (lambda: Here(node=node))
        self.here = self._look()
        self._family = family
        self._identities = Identities(layout.ENDPOINT_IDS, layout.RING_POSITIONS, share=layout.IDS_A_PORT)

    def names(self) -> Iterable[ServiceName]:
        return self._source.names()

    def may_serve(self, name: ServiceName) -> bool:
        """Whether there is a cluster IP to serve: most Services of a cluster have none of one of the families."""
        service = self._source.service(name)
        return service is not None and model.spelled_cluster_ip(service, self._family) is not None

    def precedence(self, name: ServiceName) -> tuple[str, ServiceName]:
        """Whose turn it is to claim: the older one's, as the API dates it, or a new Service could take over at a restart."""
        service = self._source.service(name)
        return service.metadata.creation_timestamp if service else "", name

    def look(self) -> bool:
        """Take in what became of the node. True if Services need something else because of it."""
        before, self.here = self.here, self._look()
        return before.decides != self.here.decides

    def draft(self, name: ServiceName, old: Served, *, found: State | None = None) -> Draft | None:
        """Draft a Service; its ports without numbers take over what they have in `found`. Raises InvalidService.

        None for one that is not served and was not.
        """
        service = self._source.service(name)
        slices = tuple(self._source.slices(name)) if service else ()
        port = usual.read(service, slices, family=self._family, node=self._node) if service else None
        if port and old.assignments.keys() <= {AssignmentName(port.name, Scope.CLUSTER)}:
            return self._draft_usual(name, port, old, found)
        ports = model.service_ports(service, self._family) if service else ()
        if not ports and old is NOT_SERVED:
            return None
        if found is not None:
            old = AnyServed(state=old.state, assignments=self._known(ports, old, found), timeouts=old.timeouts)
        plans = [self._plan(port, model.endpoints(slices, port), old.assignments) for port in ports]
        return Draft(name=name, old=old, new=_served(plans))

    def _draft_usual(self, name: ServiceName, port: UsualPort, old: Served, found: State | None) -> Draft:
        which = AssignmentName(port.name, Scope.CLUSTER)
        if found is not None and which not in old.assignments:
            standing = usual.standing(found, port)
            if standing is not None and self._identities.adopt_whole(standing):
                new = UsualServed(port, standing)
                return Draft(name=name, old=new, new=new, stands=True)
            taken_over = self._identities.adopt({which: restart.taken_over(found, port.frontend)})
            old = AnyServed(state=old.state, assignments=taken_over, timeouts=old.timeouts)
        assignment = old.assignments.get(which, NOBODY)
        if not old.assignments:
            assignment = self._begin(port)
        elif not assignment.stands_for(port.targets, ring=port.ring):
            order = {Scope.CLUSTER: (port.targets, port.ring)}
            assignment = self._assign(port.name, order, old.assignments)[Scope.CLUSTER]
        return Draft(name=name, old=old, new=UsualServed(port, assignment).remembered())

    def settle(self, draft: Draft, *, accepted: bool) -> None:
        """Give back the numbers that only the losing side of a draft has."""
        kept, dropped = (draft.new, draft.old) if accepted else (draft.old, draft.new)
        self._identities.release(dropped.assignments.values(), kept.assignments.values())

    def skip(self, found: State) -> None:
        """Hand out none of the numbers that stand in a state soon, whoever had them."""
        ids, positions = (
            map(values.mark_number, found.elements.get(name, ())) for name in (layout.ENDPOINTS, layout.RING)
        )
        self._identities.skip(ids=ids, positions=positions)

    def _known(self, ports: Iterable[ServicePort], old: Served, found: State) -> Mapping[AssignmentName, Assignment]:
        known = dict(old.assignments)
        for port in ports:
            names = [AssignmentName(port.name, scope) for scope in port.scopes]
            if known.keys().isdisjoint(names):
                known |= self._identities.adopt({name: restart.adopted(found, port, name.scope) for name in names})
        return known

    def _plan(
        self, port: ServicePort, endpoints: tuple[Endpoint, ...], known: Mapping[AssignmentName, Assignment]
    ) -> PortPlan:
        choice = topology.choose(endpoints, node=self._node, zone=self.here.zone)
        orders = {scope: turns.turns(choice.of(scope)) for scope in port.scopes}
        rings = {scope: (order, render.ring(port, scope, len(order))) for scope, order in orders.items()}
        assignments = self._assign(port.name, rings, known)
        usable = (*choice.cluster, *choice.local)
        return PortPlan(
            port=port,
            assignments=assignments,
            local=frozenset([endpoint.target for endpoint in usable if topology.may_be_local(endpoint, self._node)]),
            is_served=choice.is_served,
            allowed_sources=_allowed_sources(port, self.here.addresses),
        )

    def _begin(self, port: UsualPort) -> Assignment:
        try:
            return self._identities.begin(rotated(port.targets, self._start(port.name)), ring=port.ring)
        except NumbersExhausted as error:
            raise _without_numbers(port.name, error) from error

    def _start(self, port: ServicePortName) -> int:
        """Who comes first; else the first client of every node would go to the same endpoint."""
        return zlib.crc32(f"{self._node} {port}".encode())

    def _assign(
        self,
        port: ServicePortName,
        orders: Mapping[Scope, tuple[Sequence[Target], Ring]],
        known: Mapping[AssignmentName, Assignment],
    ) -> Mapping[Scope, Assignment]:
        """Give each scope its targets in order, with such a ring.

        An endpoint has one id, whichever scopes it is in: clients are kept at it whatever frontend they come by.
        """
        old = {scope: known.get(AssignmentName(port, scope), NOBODY) for scope in _SCOPES} if known else _UNKNOWN
        given = {member.target: member.id for assignment in old.values() for member in assignment.members}
        start = self._start(port)
        turns = {scope: (rotated(order, start), ring) for scope, (order, ring) in orders.items()}
        try:
            ids = self._identities.identify(given, itertools.chain(*[order for order, _ in turns.values()]))
        except NumbersExhausted as error:
            raise _without_numbers(port, error) from error
        return {
            scope: self._identities.assign(old[scope], ids, order, ring=ring) for scope, (order, ring) in turns.items()
        }


def _without_numbers(port: ServicePortName, error: NumbersExhausted) -> InvalidService:
    return InvalidService(port.service, "spec.ports", port.port, str(error))


def _allowed_sources(port: ServicePort, addresses: Iterable[Address]) -> tuple[Network, ...] | None:
    """A load balancer on the node may answer for its clients by the load balancer's own address."""
    ranges = port.source_ranges
    if ranges is None or not any(address in network for address in addresses for network in ranges):
        return ranges
    own = [ipaddress.ip_network(address) for address in port.load_balancer_ips]
    return model.collapsed([*ranges, *own])


def _served(plans: Sequence[PortPlan]) -> Served:
    return AnyServed(
        state=render.render(plans),
        assignments={
            AssignmentName(plan.port.name, scope): assignment
            for plan in plans
            for scope, assignment in plan.assignments.items()
        },
        timeouts=frozenset(
            [plan.port.affinity_seconds for plan in plans if plan.port.affinity_seconds is not None and plan.has_turns]
        ),
    )
