"""How many connections each Service port and each endpoint got, from what the kernel counts.

The kernel counts per endpoint id, and forgets an endpoint's count with the endpoint. A Service port's total therefore
adds up what each reading brought, so that it does not fall when an endpoint goes; what came between the last reading and
the end of an endpoint is not in it.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from proxy.model import ServiceName, ServicePortName, Target
from proxy.served import Served


class Owner(NamedTuple):
    """Whose connections an endpoint id counts."""

    port: ServicePortName
    target: Target


class Traffic:
    """Counts of all readings so far; not for two threads at once."""

    def __init__(self) -> None:
        self.ports: dict[ServicePortName, int] = {}
        self.endpoints: dict[Owner, int] = {}
        self._seen: dict[int, int] = {}

    def observe(self, counts: Mapping[int, int], served: Mapping[ServiceName, Served]) -> None:
        """Take in a reading of the kernel's counts by endpoint id."""
        owners = dict(_owners(served))
        ports = (name.port for service in served.values() for name in service.assignments)
        self.ports = {port: self.ports.get(port, 0) for port in ports}
        self._seen = {number: count for number, count in self._seen.items() if number in owners}
        for number, owner in owners.items():
            # An id that a reading beside a change missed keeps what was seen of it.
            self._add(number, owner, counts.get(number, self._seen.get(number, 0)))
        self.endpoints = {}
        for number, owner in owners.items():
            # An endpoint has an id of its own among those of this node.
            self.endpoints[owner] = self.endpoints.get(owner, 0) + self._seen[number]

    def _add(self, number: int, owner: Owner, count: int) -> None:
        before = self._seen.get(number, 0)
        # Less than before: the element was made anew and counts from zero.
        self.ports[owner.port] += count - before if count >= before else count
        self._seen[number] = count


def _owners(served: Mapping[ServiceName, Served]) -> Iterator[tuple[int, Owner]]:
    for service in served.values():
        for name, assignment in service.assignments.items():
            for member in assignment.members:
                yield member.id, Owner(name.port, member.target)
