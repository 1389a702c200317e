"""What the table holds for one Service, and the numbers taken for it.

A usual Service is known by what its share of the table is made from: making it anew takes 30 µs, and keeping it would
take a third of the proxy's memory. So is whether a table that was read back has it: nothing is made to find that out.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

import msgspec

from proxy import layout, usual
from proxy import state as states
from proxy.identities import Assignment
from proxy.model import Scope, ServiceName, ServicePortName
from proxy.state import State
from proxy.usual import UsualPort

_CLUSTER_IP: Final = "cluster IP"
_FRONTEND: Final = "frontend"
_NODE_PORT: Final = "node port"
_CLAIMED: Final = {
    layout.CLUSTER_IPS: _CLUSTER_IP,
    layout.SERVICES: _FRONTEND,
    layout.SINGLE_ENDPOINT: _FRONTEND,
    layout.NO_ENDPOINTS: _FRONTEND,
    layout.NODE_PORTS: _NODE_PORT,
    layout.NO_ENDPOINTS_NODE_PORTS: _NODE_PORT,
}
# From so many endpoints on, to make the share again for a change of one of them would take longer than the change.
_LARGE: Final = 50


class AssignmentName(NamedTuple):
    """Which endpoints of which Service port."""

    port: ServicePortName
    scope: Scope


class Claim(NamedTuple):
    """What only one Service may have: a cluster IP, or an address and port, or a node port."""

    field: str
    key: bytes


class Served(Protocol):
    """`timeouts` are those of session affinity."""

    @property
    def state(self) -> State: ...

    @property
    def assignments(self) -> Mapping[AssignmentName, Assignment]: ...

    @property
    def timeouts(self) -> frozenset[int]: ...

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands in the table for it."""

    @property
    def has_node_ports(self) -> bool: ...

    @property
    def size(self) -> int:
        """How many elements and chains it has."""

    @property
    def claims(self) -> frozenset[Claim]: ...

    def stands_in(self, found: State) -> bool:
        """Whether a table has all of it, just like that."""

    def made(self) -> "Served":
        """The same, with its share of the table made already."""

    def remembered(self) -> "Served":
        """The same, as long as nobody needs its share of the table."""


class AnyServed(msgspec.Struct, frozen=True, kw_only=True):
    """Any Service, by its share of the table."""

    state: State
    assignments: Mapping[AssignmentName, Assignment] = {}
    timeouts: frozenset[int] = frozenset()

    @property
    def is_empty(self) -> bool:
        return not self.state.elements

    @property
    def has_node_ports(self) -> bool:
        return layout.SERVED_NODE_PORTS in self.state.elements

    @property
    def size(self) -> int:
        return self.state.size

    @property
    def claims(self) -> frozenset[Claim]:
        return frozenset(
            Claim(field, key)
            for set_name, elements in self.state.elements.items()
            if (field := _CLAIMED.get(set_name))
            for key in elements
        )

    def stands_in(self, found: State) -> bool:
        return self.state == found.share(self.state)

    def made(self) -> Served:
        return self

    def remembered(self) -> Served:
        return self


class UsualServed(msgspec.Struct, frozen=True, gc=False):
    """A usual Service, with its share of the table where that is made."""

    port: UsualPort
    assignment: Assignment
    share: State | None = None

    @property
    def state(self) -> State:
        return self.share or usual.render(self.port, self.assignment)

    @property
    def assignments(self) -> Mapping[AssignmentName, Assignment]:
        return {AssignmentName(self.port.name, Scope.CLUSTER): self.assignment}

    @property
    def timeouts(self) -> frozenset[int]:
        return frozenset()

    @property
    def is_empty(self) -> bool:
        return False

    @property
    def has_node_ports(self) -> bool:
        return False

    @property
    def size(self) -> int:
        return usual.size(self.port, self.assignment)

    @property
    def claims(self) -> frozenset[Claim]:
        return frozenset((Claim(_CLUSTER_IP, self.port.cluster_ip), Claim(_FRONTEND, self.port.frontend)))

    def stands_in(self, found: State) -> bool:
        return usual.standing(found, self.port) == self.assignment

    def made(self) -> "UsualServed":
        return self if self.share else UsualServed(self.port, self.assignment, self.state)

    def remembered(self) -> "UsualServed":
        is_large = len(self.assignment.members) > _LARGE
        if is_large is (self.share is not None):
            return self
        return self.made() if is_large else UsualServed(self.port, self.assignment)


NOT_SERVED: Final[Served] = AnyServed(state=states.empty())


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A Service's share as it is and as it should be. `stands` if that is how a table that was read back has it."""

    name: ServiceName
    old: Served
    new: Served
    stands: bool = False
