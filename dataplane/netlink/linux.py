"""The kernel's links, addresses and routes, behind the `Netlink` interface.

`encode` and `decode` know the messages, the exchange is `transport`'s. Requests name links by name where the kernel allows
it, so that nothing happens between a look-up and its use.
"""

import errno
import functools
from collections.abc import Iterable

from dataplane.errors import DataplaneError, NotFound
from dataplane.netlink import constants, decode, encode
from dataplane.netlink.objects import Address, Bridge, Interface, InterfaceAddress, Link, Route, VethPair
from dataplane.netlink.transport import (
    HEADER_BYTES,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    Transport,
    request,
)

_NEW = NLM_F_CREATE | NLM_F_EXCL


class LinuxNetlink:
    """The namespace behind `netns_fd`, or the calling thread's own; usable from every thread afterwards."""

    def __init__(self, netns_fd: int | None = None) -> None:
        self._transport = Transport(netns_fd)

    def close(self) -> None:
        self._transport.close()

    # Links

    def link(self, name: str) -> Link | None:
        try:
            answers = self._request(f"look up link {name}", constants.RTM_GETLINK, encode.link(name))
        except NotFound:
            return None
        return decode.link(answers[0])

    def links(self) -> tuple[Link, ...]:
        answers = self._request("list links", constants.RTM_GETLINK, encode.links(), NLM_F_DUMP)
        return tuple(map(decode.link, answers))

    def create_bridge(self, bridge: Bridge) -> None:
        self._request(f"create bridge {bridge.name}", constants.RTM_NEWLINK, encode.bridge(bridge), _NEW)

    def create_veth(self, pair: VethPair) -> None:
        text = f"create {pair}"
        master = self._transport.index_of(pair.master, text) if pair.master else None
        self._request(text, constants.RTM_NEWLINK, encode.veth(pair, master), _NEW)
        if not (pair.alias or pair.hairpin):
            return
        try:
            # NEWLINK without NLM_F_CREATE changes a link; unlike SETLINK it reads the settings of a bridge port as well.
            description = encode.veth_description(pair)
            self._request(f"describe veth {pair.host.name}", constants.RTM_NEWLINK, description)
        except BaseException:
            self.delete_link(pair.host.name)
            raise

    def set_up(self, name: str) -> None:
        self._request(f"set {name} up", constants.RTM_SETLINK, encode.named(name, up=True))

    def set_alias(self, name: str, alias: str) -> None:
        self._request(f"set alias of {name} to {alias!r}", constants.RTM_SETLINK, encode.alias(name, alias))

    def delete_link(self, name: str) -> None:
        try:
            self._request(f"delete link {name}", constants.RTM_DELLINK, encode.named(name))
        except NotFound:
            return

    # Addresses

    def addresses(self, name: str) -> tuple[InterfaceAddress, ...]:
        text = f"list addresses of {name}"
        body = encode.addresses(self._transport.index_of(name, text))
        found = map(decode.interface_address, self._request(text, constants.RTM_GETADDR, body, NLM_F_DUMP))
        return tuple(address for address in found if not _is_automatic(address))

    def add_address(self, name: str, address: InterfaceAddress) -> None:
        text = f"add address {address.interface} to {name}"
        body = encode.new_address(self._transport.index_of(name, text), address)
        self._request(text, constants.RTM_NEWADDR, body, _NEW)

    def delete_address(self, name: str, interface: Interface) -> None:
        text = f"delete address {interface} from {name}"
        try:
            body = encode.address(self._transport.index_of(name, text), interface)
            self._request(text, constants.RTM_DELADDR, body)
        except DataplaneError as error:
            # The kernel's word for an address that the link does not have.
            if not isinstance(error, NotFound) and error.code != errno.EADDRNOTAVAIL:
                raise

    # Routes

    def routes(self, protocol: int | None = None) -> tuple[Route, ...]:
        text = f"list routes of protocol {protocol or 'any'}"
        found: list[Route] = []
        for version in (4, 6):
            answers = self._request(text, constants.RTM_GETROUTE, encode.routes(version, protocol or 0), NLM_F_DUMP)
            found += self._routes(filter(decode.is_unicast, answers))
        return tuple(route for route in found if not route.destination.is_link_local)

    def add_route(self, route: Route) -> None:
        self._change_route(f"add route {route}", constants.RTM_NEWROUTE, route, _NEW)

    def replace_route(self, route: Route) -> None:
        self._change_route(f"replace route {route}", constants.RTM_NEWROUTE, route, NLM_F_CREATE | NLM_F_REPLACE)

    def delete_route(self, route: Route) -> None:
        try:
            self._change_route(f"delete route {route}", constants.RTM_DELROUTE, route, 0)
        except NotFound:
            return

    def _change_route(self, text: str, kind: int, route: Route, flags: int) -> None:
        device = self._transport.index_of(route.device, text) if route.device else None
        self._request(text, kind, encode.route(route, device), flags)

    def route_to(self, address: Address) -> Route:
        answers = self._request(f"route to {address}", constants.RTM_GETROUTE, encode.route_to(address))
        (route,) = self._routes(answers)
        return route

    def _routes(self, answers: Iterable[bytes]) -> list[Route]:
        name_of = functools.cache(self._transport.name_of)
        return [decode.route(answer, name_of) for answer in answers]

    def _request(self, text: str, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """The answers, without their headers."""
        flags |= NLM_F_REQUEST | (0 if flags == NLM_F_DUMP else NLM_F_ACK)
        return [answer[HEADER_BYTES:] for answer in self._transport.exchange(text, request(kind, flags, body))]


def _is_automatic(address: InterfaceAddress) -> bool:
    return address.interface.version == 6 and address.interface.ip.is_link_local
