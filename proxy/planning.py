"""From API objects to one Service's share of the table, together with the numbers it takes for that.

A draft is a proposal: nothing of it counts until the kernel has accepted it. Then it is settled, one way or the other,
and the numbers that the losing side had go back.
"""

import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import msgspec

from kube import objects
from proxy import layout, model, render, restart, topology
from proxy import state as states
from proxy.identities import NOBODY, Assignment, Identities
from proxy.model import Address, Endpoint, Family, ServiceName, ServicePort, ServicePortName, Target
from proxy.render import PortPlan
from proxy.state import State


class Source(Protocol):
    """The API's objects as they are now."""

    def names(self) -> Iterable[ServiceName]: ...

    def service(self, name: ServiceName) -> objects.Service | None: ...

    def slices(self, name: ServiceName) -> Iterable[objects.EndpointSlice]: ...


class Frontend(NamedTuple):
    """Where clients of a UDP Service port send to."""

    address: Address
    port: int


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What the table holds for one Service, and the numbers taken for it.

    `udp` are the targets that still answer on each UDP frontend, also those that take no new connections.
    """

    state: State
    assignments: Mapping[ServicePortName, Assignment] = {}
    timeouts: frozenset[int] = frozenset()
    udp: Mapping[Frontend, frozenset[Target]] = {}

    @property
    def cluster_ips(self) -> frozenset[bytes]:
        return frozenset(entry.key for entry in self.state.elements if entry.set_name == layout.CLUSTER_IPS)


NOT_SERVED = Served(state=states.empty())


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A Service's share as it is and as it should be."""

    name: ServiceName
    old: Served
    new: Served


class Planner:
    """Drafts Services for one node and address family."""

    def __init__(self, source: Source, *, node: str, family: Family) -> None:
        self._source = source
        self._node = node
        self._family = family
        self._identities = Identities(layout.ENDPOINT_IDS, layout.RING_POSITIONS)

    def names(self) -> Iterable[ServiceName]:
        return self._source.names()

    def draft(self, name: ServiceName, old: Served, *, found: State | None = None) -> Draft:
        """Draft a Service; its ports without numbers take over what they have in `found`. Raises InvalidService."""
        service = self._source.service(name)
        ports = model.service_ports(service, self._family) if service else ()
        slices = tuple(self._source.slices(name))
        assignments = self._known(ports, old, found)
        plans: list[PortPlan] = []
        udp: dict[Frontend, frozenset[Target]] = {}
        for port in ports:
            endpoints = model.endpoints(slices, port)
            plans.append(self._plan(port, endpoints, assignments.get(port.name, NOBODY)))
            if port.name.protocol == "UDP":
                udp[Frontend(port.cluster_ip, port.port)] = topology.answering(endpoints)
        return Draft(
            name=name,
            old=Served(state=old.state, assignments=assignments, timeouts=old.timeouts, udp=old.udp),
            new=_served(plans, udp),
        )

    def settle(self, draft: Draft, *, accepted: bool) -> None:
        """Give back the numbers that only the losing side of a draft has."""
        kept, dropped = (draft.new, draft.old) if accepted else (draft.old, draft.new)
        for name, assignment in dropped.assignments.items():
            self._identities.release(assignment, kept.assignments.get(name, NOBODY))

    def skip(self, found: State) -> None:
        """Hand out none of the numbers that stand in a state soon, whoever had them."""
        numbers = {
            set_name: [states.number(entry) for entry in found.elements if entry.set_name == set_name]
            for set_name in (layout.ENDPOINTS, layout.RING)
        }
        self._identities.skip(ids=numbers[layout.ENDPOINTS], positions=numbers[layout.RING])

    def _known(
        self, ports: Iterable[ServicePort], old: Served, found: State | None
    ) -> Mapping[ServicePortName, Assignment]:
        if found is None:
            return old.assignments
        adopted = {
            port.name: self._identities.adopt(restart.adopted(found, port))
            for port in ports
            if port.name not in old.assignments
        }
        return {**old.assignments, **adopted}

    def _plan(self, port: ServicePort, endpoints: tuple[Endpoint, ...], known: Assignment) -> PortPlan:
        choice = topology.choose(endpoints, local_only=port.local_only, node=self._node)
        assignment = self._identities.assign(
            known,
            [endpoint.target for endpoint in choice.usable],
            ring=render.needs_ring(port, len(choice.usable)),
            # Else the first client of every node would go to the same endpoint.
            start=zlib.crc32(f"{self._node} {port.name}".encode()),
        )
        local = frozenset(endpoint.target for endpoint in choice.usable if topology.may_be_local(endpoint, self._node))
        return PortPlan(port=port, assignment=assignment, local=local, refusal=choice.refusal)


def _served(plans: Iterable[PortPlan], udp: Mapping[Frontend, frozenset[Target]]) -> Served:
    rendered = tuple(plans)
    seconds = (plan.port.affinity_seconds for plan in rendered if plan.assignment.first is not None)
    return Served(
        state=render.render(rendered),
        assignments={plan.port.name: plan.assignment for plan in rendered},
        timeouts=frozenset(timeout for timeout in seconds if timeout is not None),
        udp=udp,
    )
