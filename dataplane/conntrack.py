"""Connections the kernel remembers: finding UDP flows by where they were sent, and making the kernel forget one.

A UDP flow lives in conntrack for as long as its client keeps sending, with the translation its first packet got. When
that has become wrong, the flow goes nowhere until it is deleted; its next packet is then translated anew. The kernel
filters the dump, so its cost here is that of the flows asked for.
"""

import threading
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, IPPROTO_UDP
from struct import Struct
from typing import Final, NamedTuple

from dataplane.errors import NotFound
from dataplane.nft import wire
from dataplane.nft.netfilter_socket import NetfilterSocket

Address = IPv4Address | IPv6Address

# include/uapi/linux/netfilter/nfnetlink_conntrack.h
_SUBSYSTEM: Final = 1 << 8  # NFNL_SUBSYS_CTNETLINK
IPCTNL_MSG_CT_GET: Final = _SUBSYSTEM | 1
IPCTNL_MSG_CT_DELETE: Final = _SUBSYSTEM | 2
CTA_TUPLE_ORIG: Final = 1
CTA_TUPLE_REPLY: Final = 2
CTA_ID: Final = 12
CTA_ZONE: Final = 18
CTA_FILTER: Final = 25
CTA_TUPLE_IP: Final = 1
CTA_TUPLE_PROTO: Final = 2
CTA_IP_V4_SRC: Final = 1
CTA_IP_V4_DST: Final = 2
CTA_IP_V6_SRC: Final = 3
CTA_IP_V6_DST: Final = 4
CTA_PROTO_NUM: Final = 1
CTA_PROTO_SRC_PORT: Final = 2
CTA_PROTO_DST_PORT: Final = 3
CTA_FILTER_ORIG_FLAGS: Final = 1
# Which fields of the sample tuple a dump compares: net/netfilter/nf_internals.h, since 5.8.
CTA_FILTER_F_CTA_IP_DST: Final = 1 << 1
CTA_FILTER_F_CTA_PROTO_NUM: Final = 1 << 3

_NLM_F_ACK: Final = 0x4
_NLA_F_NESTED: Final = 0x8000
_UDP: Final = wire.attribute(CTA_PROTO_NUM, bytes((IPPROTO_UDP,)))
_HOST_U32: Final = Struct("=I")
_FAMILIES: Final = {4: AF_INET, 6: AF_INET6}
_SOURCES: Final = (CTA_IP_V4_SRC, CTA_IP_V6_SRC)
_DESTINATIONS: Final = (CTA_IP_V4_DST, CTA_IP_V6_DST)


class Flow(NamedTuple):
    """A UDP flow: where its client sent it, who answers it, and the attributes by which the kernel knows it."""

    destination: Address
    destination_port: int
    replier: Address
    replier_port: int
    name: bytes


class Conntrack:
    """The connections of one network namespace; None is the calling thread's. May be used by any thread."""

    def __init__(self, *, netns_fd: int | None = None) -> None:
        self._socket = NetfilterSocket(netns_fd)
        self._lock = threading.Lock()

    def close(self) -> None:
        self._socket.close()

    def udp_flows(self, version: int, *, destination: Address | None = None) -> tuple[Flow, ...]:
        """The UDP flows of an IP version, or those that were sent to one address. Raises DataplaneError."""
        only = _only_udp(destination)
        with self._lock:
            sequence = self._socket.next_sequence()
            question = _request(IPCTNL_MSG_CT_GET, _FAMILIES[version], only, flags=wire.NLM_F_DUMP, sequence=sequence)
            answers = self._socket.dump(question, sequence, "list UDP flows")
        return tuple(flow for answer in answers if (flow := read_flow(answer.body)))

    def delete(self, flow: Flow) -> bool:
        """Make the kernel forget exactly this flow. False if it had already; raises DataplaneError."""
        family = _FAMILIES[flow.destination.version]
        with self._lock:
            sequence = self._socket.next_sequence()
            order = _request(IPCTNL_MSG_CT_DELETE, family, flow.name, flags=_NLM_F_ACK, sequence=sequence)
            try:
                self._socket.ask(order, sequence, f"delete UDP flow to {flow.destination}:{flow.destination_port}")
            except NotFound:
                return False
        return True


def read_flow(body: bytes) -> Flow | None:
    """Read a dumped flow; None if it is no UDP flow or cannot be read."""
    try:
        found = dict(wire.attributes(body))
        original, reply = _tuple(found[CTA_TUPLE_ORIG]), _tuple(found[CTA_TUPLE_REPLY])
    except (KeyError, ValueError, wire.MalformedMessage):
        return None
    if original.protocol != IPPROTO_UDP:
        return None
    name = b"".join(_named(kind, found[kind]) for kind in (CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID) if kind in found)
    return Flow(original.destination, original.destination_port, reply.source, reply.source_port, name)


class _Tuple(NamedTuple):
    protocol: int
    source: Address
    source_port: int
    destination: Address
    destination_port: int


def _tuple(payload: bytes) -> _Tuple:
    parts = dict(wire.attributes(payload))
    ip = dict(wire.attributes(parts[CTA_TUPLE_IP]))
    protocol = dict(wire.attributes(parts[CTA_TUPLE_PROTO]))
    return _Tuple(
        protocol=wire.read_number(protocol[CTA_PROTO_NUM]),
        source=_address(ip, _SOURCES),
        source_port=wire.read_number(protocol.get(CTA_PROTO_SRC_PORT, b"")),
        destination=_address(ip, _DESTINATIONS),
        destination_port=wire.read_number(protocol.get(CTA_PROTO_DST_PORT, b"")),
    )


def _address(ip: dict[int, bytes], kinds: tuple[int, int]) -> Address:
    v4, v6 = kinds
    return IPv4Address(ip[v4]) if v4 in ip else IPv6Address(ip[v6])


def _named(kind: int, payload: bytes) -> bytes:
    return _nest(kind, payload) if kind == CTA_TUPLE_ORIG else wire.attribute(kind, payload)


def _only_udp(destination: Address | None) -> bytes:
    flags, sample = CTA_FILTER_F_CTA_PROTO_NUM, _nest(CTA_TUPLE_PROTO, _UDP)
    if destination is not None:
        flags |= CTA_FILTER_F_CTA_IP_DST
        kind = CTA_IP_V4_DST if destination.version == 4 else CTA_IP_V6_DST
        sample = _nest(CTA_TUPLE_IP, wire.attribute(kind, destination.packed)) + sample
    compared = wire.attribute(CTA_FILTER_ORIG_FLAGS, _HOST_U32.pack(flags))
    return _nest(CTA_FILTER, compared) + _nest(CTA_TUPLE_ORIG, sample)


def _nest(kind: int, payload: bytes) -> bytes:
    # Some of these are parsed strictly: a nest must say that it is one.
    return wire.attribute(kind | _NLA_F_NESTED, payload)


def _request(kind: int, family: int, attributes: bytes, *, flags: int, sequence: int) -> bytes:
    length = wire.MESSAGE.size + len(attributes)
    return wire.MESSAGE.pack(length, kind, wire.NLM_F_REQUEST | flags, sequence, 0, family, 0, 0) + attributes
