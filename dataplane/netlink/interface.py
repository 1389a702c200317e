"""The door to links, addresses and routes of one network namespace; `linux` and `fake` stand behind it.

Every request that the kernel refuses raises a `dataplane.errors` error whose text is the request. What names something
absent raises NotFound, what would make something twice raises AlreadyExists and leaves the existing thing alone.
"""

from typing import Protocol

from dataplane.netlink.objects import Address, Bridge, Interface, InterfaceAddress, Link, Route, VethPair


class Netlink(Protocol):
    def link(self, name: str) -> Link | None: ...

    def links(self) -> tuple[Link, ...]: ...

    def create_bridge(self, bridge: Bridge) -> None:
        """Create a bridge that is up and shows its frames to the IPv4 and IPv6 hooks."""

    def create_veth(self, pair: VethPair) -> None:
        """Create both ends in one request. The host end is up; the peer is down, named and in its namespace.

        NotFound when `master` is absent. Nothing is left behind by a failure.
        """

    def set_up(self, name: str) -> None: ...

    def set_alias(self, name: str, alias: str) -> None: ...

    def delete_link(self, name: str) -> None:
        """Delete a link, and with one end of a veth the other. Absent is success."""

    def addresses(self, name: str) -> tuple[InterfaceAddress, ...]:
        """The addresses of a link, except the link-local ones the kernel makes up by itself."""

    def add_address(self, name: str, address: InterfaceAddress) -> None: ...

    def delete_address(self, name: str, interface: Interface) -> None:
        """Take an address away. Absent is success."""

    def routes(self, protocol: int | None = None) -> tuple[Route, ...]:
        """The main table's unicast routes, all but the link-local ones, or only those a certain program put there."""

    def add_route(self, route: Route) -> None: ...

    def replace_route(self, route: Route) -> None:
        """Put a route in the place of the one to the same destination, or add it: no packet sees a gap."""

    def delete_route(self, route: Route) -> None:
        """Delete exactly this route. Absent is success."""

    def route_to(self, address: Address) -> Route:
        """The way a packet to this address takes: device, source address and gateway. NotFound when there is none."""

    def close(self) -> None: ...
