"""The kernel's links, addresses and routes, behind the `Netlink` interface.

pyroute2's message classes encode and decode, except routes, which are many; the exchange is `transport`'s. Requests name links by name where
the kernel allows it, so that nothing happens between a look-up and its use.
"""

import errno
import functools
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from dataplane.errors import DataplaneError, NotFound
from dataplane.netlink import decode
from dataplane.netlink.decode import RTN_UNICAST
from dataplane.netlink.objects import (
    Address,
    Bridge,
    Interface,
    InterfaceAddress,
    Link,
    Network,
    Route,
    Scope,
    VethPair,
)
from dataplane.netlink.transport import (
    HEADER_BYTES,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    Transport,
)

# include/uapi/linux/rtnetlink.h
RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_SETLINK = 19
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26
RT_TABLE_MAIN = 254
RTEXT_FILTER_SKIP_STATS = 1 << 3
IFF_UP = 1

Attributes = list[tuple[str, Any]]


class LinuxNetlink:
    """The namespace behind `netns_fd`, or the calling thread's own; usable from every thread afterwards."""

    def __init__(self, netns_fd: int | None = None) -> None:
        self._transport = Transport(netns_fd)

    def close(self) -> None:
        self._transport.close()

    # Links

    def link(self, name: str) -> Link | None:
        message = _link_message(RTM_GETLINK, [("IFLA_IFNAME", name), ("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)])
        try:
            answers = self._request(f"look up link {name}", message)
        except NotFound:
            return None
        return _link(_decoded(ifinfmsg, answers[0]))

    def links(self) -> tuple[Link, ...]:
        message = _link_message(RTM_GETLINK, [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)])
        answers = self._request("list links", message, NLM_F_DUMP)
        return tuple(_link(_decoded(ifinfmsg, answer)) for answer in answers)

    def create_bridge(self, bridge: Bridge) -> None:
        settings = {"attrs": [("IFLA_BR_NF_CALL_IPTABLES", 1), ("IFLA_BR_NF_CALL_IP6TABLES", 1)]}
        attributes = [
            ("IFLA_IFNAME", bridge.name),
            ("IFLA_MTU", bridge.mtu),
            ("IFLA_ADDRESS", bridge.mac),
            ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", settings)]}),
        ]
        message = _link_message(RTM_NEWLINK, attributes, up=True)
        self._request(f"create bridge {bridge.name}", message, NLM_F_CREATE | NLM_F_EXCL)

    def create_veth(self, pair: VethPair) -> None:
        text = f"create {pair}"
        attributes = _veth_attributes(pair)
        if pair.master:
            attributes.append(("IFLA_MASTER", self._transport.index_of(pair.master, text)))
        self._request(text, _link_message(RTM_NEWLINK, attributes, up=True), NLM_F_CREATE | NLM_F_EXCL)
        if not (pair.alias or pair.hairpin):
            return
        try:
            self._describe_veth(pair)
        except BaseException:
            self.delete_link(pair.host.name)
            raise

    def _describe_veth(self, pair: VethPair) -> None:
        """Set what the kernel does not read from the message that creates a link."""
        attributes: Attributes = [("IFLA_IFNAME", pair.host.name)]
        if pair.alias:
            attributes.append(("IFLA_IFALIAS", pair.alias))
        if pair.hairpin:
            port = {"attrs": [("IFLA_BRPORT_MODE", 1)]}
            slave = [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", port)]
            attributes.append(("IFLA_LINKINFO", {"attrs": slave}))
        # NEWLINK without NLM_F_CREATE changes a link; unlike SETLINK it reads the settings of a bridge port as well.
        self._request(f"describe veth {pair.host.name}", _link_message(RTM_NEWLINK, attributes))

    def set_up(self, name: str) -> None:
        self._request(f"set {name} up", _link_message(RTM_SETLINK, [("IFLA_IFNAME", name)], up=True))

    def set_alias(self, name: str, alias: str) -> None:
        message = _link_message(RTM_SETLINK, [("IFLA_IFNAME", name), ("IFLA_IFALIAS", alias)])
        self._request(f"set alias of {name} to {alias!r}", message)

    def delete_link(self, name: str) -> None:
        try:
            self._request(f"delete link {name}", _link_message(RTM_DELLINK, [("IFLA_IFNAME", name)]))
        except NotFound:
            return

    # Addresses

    def addresses(self, name: str) -> tuple[InterfaceAddress, ...]:
        text = f"list addresses of {name}"
        message = _address_message(RTM_GETADDR, self._transport.index_of(name, text))
        found = [_decoded(ifaddrmsg, answer) for answer in self._request(text, message, NLM_F_DUMP)]
        return tuple(address for address in map(_interface_address, found) if not _is_automatic(address))

    def add_address(self, name: str, address: InterfaceAddress) -> None:
        text = f"add address {address.interface} to {name}"
        message = _address_message(RTM_NEWADDR, self._transport.index_of(name, text), address.interface)
        if address.nodad and address.interface.version == 6:
            message["attrs"].append(("IFA_FLAGS", IFA_F_NODAD))
        self._request(text, message, NLM_F_CREATE | NLM_F_EXCL)

    def delete_address(self, name: str, interface: Interface) -> None:
        text = f"delete address {interface} from {name}"
        try:
            self._request(text, _address_message(RTM_DELADDR, self._transport.index_of(name, text), interface))
        except DataplaneError as error:
            # The kernel's word for an address that the link does not have.
            if not isinstance(error, NotFound) and error.code != errno.EADDRNOTAVAIL:
                raise

    # Routes

    def routes(self, protocol: int | None = None) -> tuple[Route, ...]:
        found: list[Route] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            message = _route_message(RTM_GETROUTE, family, [("RTA_TABLE", RT_TABLE_MAIN)])
            message["table"] = RT_TABLE_MAIN
            message["proto"] = protocol or 0
            answers = self._request(f"list routes of protocol {protocol or 'any'}", message, NLM_F_DUMP)
            found += self._routes(answer for answer in answers if decode.is_unicast(_body(answer)))
        return tuple(route for route in found if not route.destination.is_link_local)

    def add_route(self, route: Route) -> None:
        self._change_route(f"add route {route}", RTM_NEWROUTE, route, NLM_F_CREATE | NLM_F_EXCL)

    def replace_route(self, route: Route) -> None:
        self._change_route(f"replace route {route}", RTM_NEWROUTE, route, NLM_F_CREATE | NLM_F_REPLACE)

    def delete_route(self, route: Route) -> None:
        try:
            self._change_route(f"delete route {route}", RTM_DELROUTE, route, 0)
        except NotFound:
            return

    def _change_route(self, text: str, kind: int, route: Route, flags: int) -> None:
        attributes: Attributes = [("RTA_DST", str(route.destination.network_address))]
        if route.gateway:
            attributes.append(("RTA_GATEWAY", str(route.gateway)))
        if route.device:
            attributes.append(("RTA_OIF", self._transport.index_of(route.device, text)))
        if route.source:
            attributes.append(("RTA_PREFSRC", str(route.source)))
        message = _route_message(kind, _family(route.destination), attributes)
        message["dst_len"] = route.destination.prefixlen
        message["table"] = RT_TABLE_MAIN
        message["proto"] = int(route.protocol)
        message["scope"] = int(route.scope or Scope.UNIVERSE)
        message["type"] = RTN_UNICAST
        self._request(text, message, flags)

    def route_to(self, address: Address) -> Route:
        message = _route_message(RTM_GETROUTE, _family(address), [("RTA_DST", str(address))])
        message["dst_len"] = address.max_prefixlen
        (route,) = self._routes(self._request(f"route to {address}", message))
        return route

    def _routes(self, answers: Iterable[bytes]) -> list[Route]:
        name_of = functools.cache(self._transport.name_of)
        return [decode.route(_body(answer), name_of) for answer in answers]

    def _request(self, text: str, message: Any, flags: int = NLM_F_ACK) -> list[bytes]:
        header = message["header"]
        header["flags"] = NLM_F_REQUEST | flags | (0 if flags == NLM_F_DUMP else NLM_F_ACK)
        message.encode()
        return self._transport.exchange(text, message.data)


def _veth_attributes(pair: VethPair) -> Attributes:
    peer = [
        ("IFLA_IFNAME", pair.peer.name),
        ("IFLA_MTU", pair.mtu),
        ("IFLA_ADDRESS", pair.peer.mac),
        ("IFLA_NET_NS_FD", pair.netns_fd),
    ]
    veth = {"attrs": [("VETH_INFO_PEER", {"attrs": peer})]}
    return [
        ("IFLA_IFNAME", pair.host.name),
        ("IFLA_MTU", pair.mtu),
        ("IFLA_ADDRESS", pair.host.mac),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", veth)]}),
    ]


def _link_message(kind: int, attributes: Attributes, *, up: bool = False) -> Any:
    message = ifinfmsg()
    message["header"]["type"] = kind
    message["attrs"] = attributes
    if up:
        message["flags"] = message["change"] = IFF_UP
    return message


def _address_message(kind: int, index: int, interface: Interface | None = None) -> Any:
    message = ifaddrmsg()
    message["header"]["type"] = kind
    message["index"] = index
    if interface:
        message["family"] = _family(interface)
        message["prefixlen"] = interface.network.prefixlen
        message["attrs"] = [("IFA_LOCAL", str(interface.ip)), ("IFA_ADDRESS", str(interface.ip))]
    return message


def _route_message(kind: int, family: int, attributes: Attributes) -> Any:
    message = rtmsg()
    message["header"]["type"] = kind
    message["family"] = family
    message["attrs"] = attributes
    return message


def _decoded(kind: type[Any], answer: bytes) -> Any:
    message = kind(answer)
    message.decode()
    return message


def _link(message: Any) -> Link:
    linkinfo = message.get_attr("IFLA_LINKINFO")
    bridge = _nested(linkinfo, "IFLA_INFO_DATA") if _nested(linkinfo, "IFLA_INFO_KIND") == "bridge" else None
    port = _nested(linkinfo, "IFLA_INFO_SLAVE_DATA") if _nested(linkinfo, "IFLA_INFO_SLAVE_KIND") == "bridge" else None
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        kind=_nested(linkinfo, "IFLA_INFO_KIND") or "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU"),
        up=bool(message["flags"] & IFF_UP),
        alias=message.get_attr("IFLA_IFALIAS") or "",
        master=message.get_attr("IFLA_MASTER"),
        hairpin=bool(_nested(port, "IFLA_BRPORT_MODE")),
        nf_call_iptables=bool(_nested(bridge, "IFLA_BR_NF_CALL_IPTABLES")),
        nf_call_ip6tables=bool(_nested(bridge, "IFLA_BR_NF_CALL_IP6TABLES")),
        peer_index=message.get_attr("IFLA_LINK"),
        peer_netnsid=message.get_attr("IFLA_LINK_NETNSID"),
    )


def _nested(container: Any, name: str) -> Any:
    return container.get_attr(name) if container is not None else None


def _interface_address(message: Any) -> InterfaceAddress:
    # With a peer address IFA_ADDRESS is the far end; IPv6 without one sends no IFA_LOCAL.
    address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    interface = ipaddress.ip_interface(f"{address}/{message['prefixlen']}")
    return InterfaceAddress(interface=interface, nodad=interface.version == 4 or bool(flags & IFA_F_NODAD))


def _is_automatic(address: InterfaceAddress) -> bool:
    return address.interface.version == 6 and address.interface.ip.is_link_local


def _family(address: Address | Interface | Network) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _body(answer: bytes) -> bytes:
    return answer[HEADER_BYTES:]
