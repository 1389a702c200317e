"""Requests about links, addresses and routes as the bytes the kernel reads.

Pure, and without a library: a plugin that runs alone would spend most of its time on importing one.
"""

import struct
from collections.abc import Iterable

from dataplane.netlink.constants import (
    AF_INET,
    AF_INET6,
    IFA_ADDRESS,
    IFA_F_NODAD,
    IFA_FLAGS,
    IFA_LOCAL,
    IFADDRMSG,
    IFF_UP,
    IFINFOMSG,
    IFLA_ADDRESS,
    IFLA_BR_NF_CALL_IP6TABLES,
    IFLA_BR_NF_CALL_IPTABLES,
    IFLA_BRPORT_MODE,
    IFLA_EXT_MASK,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_NET_NS_FD,
    RT_TABLE_MAIN,
    RTA_DST,
    RTA_GATEWAY,
    RTA_METRICS,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_TABLE,
    RTAX_ADVMSS,
    RTAX_MTU,
    RTEXT_FILTER_SKIP_STATS,
    RTMSG,
    RTN_UNICAST,
    VETH_INFO_PEER,
)
from dataplane.netlink.objects import Address, Bridge, Interface, InterfaceAddress, Route, RouteOptions, Scope, VethPair

_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_FAMILIES = {4: AF_INET, 6: AF_INET6}


def attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _number(kind: int, number: int) -> bytes:
    return attribute(kind, _U32.pack(number))


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


# Links


def _link(attributes: Iterable[bytes] = (), *, up: bool = False) -> bytes:
    flags = IFF_UP if up else 0
    return IFINFOMSG.pack(0, 0, 0, flags, flags) + b"".join(attributes)


def links() -> bytes:
    return _link([_number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)])


def link(name: str) -> bytes:
    return _link([_text(IFLA_IFNAME, name), _number(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)])


def named(name: str, *, up: bool = False) -> bytes:
    """A link by its name alone, to delete it or to set it up."""
    return _link([_text(IFLA_IFNAME, name)], up=up)


def alias(name: str, text: str) -> bytes:
    return _link([_text(IFLA_IFNAME, name), _text(IFLA_IFALIAS, text)])


def bridge(bridge: Bridge) -> bytes:
    calls = [attribute(kind, b"\1") for kind in (IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES)]
    settings = attribute(IFLA_INFO_DATA, b"".join(calls))
    info = attribute(IFLA_LINKINFO, _text(IFLA_INFO_KIND, "bridge") + settings)
    return _link([*_end(bridge.name, bridge.mtu, bridge.mac), info], up=True)


def veth(pair: VethPair, master: int | None) -> bytes:
    """Both ends; `master` is the index of the host end's bridge."""
    peer = _link([*_end(pair.peer.name, pair.mtu, pair.peer.mac), _number(IFLA_NET_NS_FD, pair.netns_fd)])
    settings = attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer))
    attributes = [
        *_end(pair.host.name, pair.mtu, pair.host.mac),
        attribute(IFLA_LINKINFO, _text(IFLA_INFO_KIND, "veth") + settings),
    ]
    return _link([*attributes, *([_number(IFLA_MASTER, master)] if master else [])], up=True)


def _end(name: str, mtu: int, mac: str) -> list[bytes]:
    return [_text(IFLA_IFNAME, name), _number(IFLA_MTU, mtu), attribute(IFLA_ADDRESS, _octets(mac))]


def veth_description(pair: VethPair) -> bytes:
    """What the kernel does not read from the message that creates a link."""
    attributes = [_text(IFLA_IFNAME, pair.host.name)]
    if pair.alias:
        attributes.append(_text(IFLA_IFALIAS, pair.alias))
    if pair.hairpin:
        port = attribute(IFLA_INFO_SLAVE_DATA, attribute(IFLA_BRPORT_MODE, b"\1"))
        attributes.append(attribute(IFLA_LINKINFO, _text(IFLA_INFO_SLAVE_KIND, "bridge") + port))
    return _link(attributes)


# Addresses


def addresses(index: int) -> bytes:
    return IFADDRMSG.pack(0, 0, 0, 0, index)


def address(index: int, interface: Interface) -> bytes:
    header = IFADDRMSG.pack(_FAMILIES[interface.version], interface.network.prefixlen, 0, 0, index)
    return header + attribute(IFA_LOCAL, interface.ip.packed) + attribute(IFA_ADDRESS, interface.ip.packed)


def new_address(index: int, new: InterfaceAddress) -> bytes:
    flags = _number(IFA_FLAGS, IFA_F_NODAD) if new.nodad and new.interface.version == 6 else b""
    return address(index, new.interface) + flags


# Routes


def routes(version: int, protocol: int) -> bytes:
    header = RTMSG.pack(_FAMILIES[version], 0, 0, 0, RT_TABLE_MAIN, protocol, 0, 0, 0)
    return header + _number(RTA_TABLE, RT_TABLE_MAIN)


def route(route: Route, device: int | None) -> bytes:
    """`device` is the index of the link it leads through."""
    family, length = _FAMILIES[route.destination.version], route.destination.prefixlen
    scope = int(route.scope or Scope.UNIVERSE)
    table = route.options.table or RT_TABLE_MAIN
    # The header has 8 bits for the table, the attribute 32.
    header = RTMSG.pack(family, length, 0, 0, table & 0xFF, int(route.protocol), scope, RTN_UNICAST, 0)
    attributes = [attribute(RTA_DST, route.destination.network_address.packed)]
    if route.gateway:
        attributes.append(attribute(RTA_GATEWAY, route.gateway.packed))
    if device:
        attributes.append(_number(RTA_OIF, device))
    if route.source:
        attributes.append(attribute(RTA_PREFSRC, route.source.packed))
    return header + b"".join(attributes) + _number(RTA_TABLE, table) + _options(route.options)


def _options(options: RouteOptions) -> bytes:
    metrics = b"".join(
        _number(kind, value) for kind, value in ((RTAX_MTU, options.mtu), (RTAX_ADVMSS, options.advmss)) if value
    )
    priority = b"" if options.priority is None else _number(RTA_PRIORITY, options.priority)
    return priority + (attribute(RTA_METRICS, metrics) if metrics else b"")


def route_to(address: Address) -> bytes:
    header = RTMSG.pack(_FAMILIES[address.version], address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    return header + attribute(RTA_DST, address.packed)
