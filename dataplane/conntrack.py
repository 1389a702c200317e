"""Connections the kernel remembers: finding them by what they were sent to or by their mark, marking and forgetting them.

A UDP flow lives in conntrack for as long as its client keeps sending, with the translation its first packet got; a TCP
connection as long as its ends keep it. The kernel filters a dump, so what is copied here is what was asked for.
"""

import threading
from collections.abc import Iterator
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
IPCTNL_MSG_CT_NEW: Final = _SUBSYSTEM | 0
IPCTNL_MSG_CT_GET: Final = _SUBSYSTEM | 1
IPCTNL_MSG_CT_DELETE: Final = _SUBSYSTEM | 2
CTA_TUPLE_ORIG: Final = 1
CTA_TUPLE_REPLY: Final = 2
CTA_PROTOINFO: Final = 4
CTA_MARK: Final = 8
CTA_ID: Final = 12
CTA_ZONE: Final = 18
CTA_MARK_MASK: Final = 21
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
CTA_PROTOINFO_TCP: Final = 1
CTA_PROTOINFO_TCP_STATE: Final = 1
CTA_FILTER_ORIG_FLAGS: Final = 1
# Which fields of the sample tuple a dump compares: net/netfilter/nf_internals.h, since 5.8.
CTA_FILTER_F_CTA_IP_DST: Final = 1 << 1
CTA_FILTER_F_CTA_PROTO_NUM: Final = 1 << 3
CTA_FILTER_F_CTA_PROTO_DST_PORT: Final = 1 << 5

# enum tcp_conntrack
TCP_CONNTRACK_SYN_SENT: Final = 1
TCP_CONNTRACK_TIME_WAIT: Final = 7  # from here on both ends are done, or one was told that the other is

_NLM_F_ACK: Final = 0x4
_NLA_F_NESTED: Final = 0x8000
_HOST_U32: Final = Struct("=I")
_FAMILIES: Final = {4: AF_INET, 6: AF_INET6}
_NOBODY: Final = IPv4Address(0)


class Flow(NamedTuple):
    """A connection: where its client sent it, who answers it and to whom, and the attributes by which the kernel knows it.

    `state` is TCP's, as conntrack counts it; 0 for other protocols.
    """

    destination: Address
    destination_port: int
    replier: Address
    replier_port: int
    name: bytes
    protocol: int = IPPROTO_UDP
    source: Address = _NOBODY
    source_port: int = 0
    reply_to: Address = _NOBODY
    reply_to_port: int = 0
    mark: int = 0
    state: int = 0

    @property
    def is_translated(self) -> bool:
        return (self.replier, self.replier_port) != (self.destination, self.destination_port)

    @property
    def is_ending(self) -> bool:
        return self.state >= TCP_CONNTRACK_TIME_WAIT


class Marks(NamedTuple):
    """All marks that are `value` where `mask` has bits."""

    value: int
    mask: int = 0xFFFF_FFFF


class Sent(NamedTuple):
    """What flows were sent to: None is everything."""

    address: Address | None = None
    port: int | None = None


ANYWHERE: Final = Sent()


class Conntrack:
    """The connections of one network namespace; None is the calling thread's. May be used by any thread."""

    def __init__(self, *, netns_fd: int | None = None) -> None:
        self._socket = NetfilterSocket(netns_fd)
        self._lock = threading.Lock()

    def close(self) -> None:
        self._socket.close()

    def flows(
        self, version: int, protocol: int, *, sent: Sent = ANYWHERE, marks: Marks | None = None
    ) -> Iterator[Flow]:
        """The flows of an IP version and protocol, as far as they were sent there and are so marked.

        Raises DataplaneError.
        """
        only = _only(protocol, sent) + (_marks(marks) if marks else b"")
        with self._lock:
            sequence = self._socket.next_sequence()
            question = _request(IPCTNL_MSG_CT_GET, version, only, flags=wire.NLM_F_DUMP, sequence=sequence)
            answers = self._socket.dump(question, sequence, "list connections")
        flows = (flow for answer in answers if (flow := read_flow(answer.body)))
        return (flow for flow in flows if sent.address in {None, flow.destination})

    def udp_flows(self, version: int) -> tuple[Flow, ...]:
        """All UDP flows of an IP version. Raises DataplaneError."""
        return tuple(self.flows(version, IPPROTO_UDP))

    def delete(self, flow: Flow) -> bool:
        """Make the kernel forget exactly this flow. False if it had already; raises DataplaneError."""
        return self._change(IPCTNL_MSG_CT_DELETE, flow, b"", "delete")

    def set_mark(self, flow: Flow, mark: int) -> bool:
        """Give exactly this flow another mark. False if it is gone; raises DataplaneError."""
        return self._change(IPCTNL_MSG_CT_NEW, flow, wire.u32(CTA_MARK, mark), "mark")

    def _change(self, kind: int, flow: Flow, attributes: bytes, verb: str) -> bool:
        with self._lock:
            sequence = self._socket.next_sequence()
            version, flags = flow.destination.version, _NLM_F_ACK
            order = _request(kind, version, flow.name + attributes, flags=flags, sequence=sequence)
            try:
                self._socket.ask(order, sequence, f"{verb} flow to {flow.destination}:{flow.destination_port}")
            except NotFound:
                return False
        return True


def read_flow(body: bytes) -> Flow | None:
    """Read a dumped flow; None if it cannot be read."""
    try:
        found = wire.fields(body)
        original, reply = _tuple(found[CTA_TUPLE_ORIG]), _tuple(found[CTA_TUPLE_REPLY])
        state = _tcp_state(found[CTA_PROTOINFO]) if CTA_PROTOINFO in found else 0
    except (KeyError, ValueError, wire.MalformedMessage):
        return None
    name = b"".join(_named(kind, found[kind]) for kind in (CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID) if kind in found)
    return Flow(
        original.destination,
        original.destination_port,
        reply.source,
        reply.source_port,
        name,
        original.protocol,
        original.source,
        original.source_port,
        reply.destination,
        reply.destination_port,
        wire.read_number(found.get(CTA_MARK, b"")),
        state,
    )


class _Tuple(NamedTuple):
    protocol: int
    source: Address
    source_port: int
    destination: Address
    destination_port: int


def _tuple(payload: bytes) -> _Tuple:
    parts = wire.fields(payload)
    ip, protocol = wire.fields(parts[CTA_TUPLE_IP]), wire.fields(parts[CTA_TUPLE_PROTO])
    return _Tuple(
        wire.read_number(protocol[CTA_PROTO_NUM]),
        _address(ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC),
        wire.read_number(protocol.get(CTA_PROTO_SRC_PORT, b"")),
        _address(ip, CTA_IP_V4_DST, CTA_IP_V6_DST),
        wire.read_number(protocol.get(CTA_PROTO_DST_PORT, b"")),
    )


def _address(ip: dict[int, bytes], v4: int, v6: int) -> Address:
    return IPv4Address(ip[v4]) if v4 in ip else IPv6Address(ip[v6])


def _tcp_state(payload: bytes) -> int:
    tcp = wire.fields(payload).get(CTA_PROTOINFO_TCP, b"")
    return wire.read_number(wire.fields(tcp).get(CTA_PROTOINFO_TCP_STATE, b""))


def _named(kind: int, payload: bytes) -> bytes:
    return _nest(kind, payload) if kind == CTA_TUPLE_ORIG else wire.attribute(kind, payload)


def _only(protocol: int, sent: Sent) -> bytes:
    flags, sample = CTA_FILTER_F_CTA_PROTO_NUM, wire.attribute(CTA_PROTO_NUM, bytes((protocol,)))
    if sent.port is not None:
        flags |= CTA_FILTER_F_CTA_PROTO_DST_PORT
        sample += wire.attribute(CTA_PROTO_DST_PORT, sent.port.to_bytes(2, "big"))
    sample = _nest(CTA_TUPLE_PROTO, sample)
    # For IPv6 the kernel leaves out what has this very address (ctnetlink_filter_match_tuple, as of 6.18).
    if sent.address is not None and sent.address.version == 4:
        flags |= CTA_FILTER_F_CTA_IP_DST
        sample = _nest(CTA_TUPLE_IP, wire.attribute(CTA_IP_V4_DST, sent.address.packed)) + sample
    compared = wire.attribute(CTA_FILTER_ORIG_FLAGS, _HOST_U32.pack(flags))
    return _nest(CTA_FILTER, compared) + _nest(CTA_TUPLE_ORIG, sample)


def _marks(marks: Marks) -> bytes:
    return wire.u32(CTA_MARK, marks.value) + wire.u32(CTA_MARK_MASK, marks.mask)


def _nest(kind: int, payload: bytes) -> bytes:
    # Some of these are parsed strictly: a nest must say that it is one.
    return wire.attribute(kind | _NLA_F_NESTED, payload)


def _request(kind: int, version: int, attributes: bytes, *, flags: int, sequence: int) -> bytes:
    length = wire.MESSAGE.size + len(attributes)
    head = wire.MESSAGE.pack(length, kind, wire.NLM_F_REQUEST | flags, sequence, 0, _FAMILIES[version], 0, 0)
    return head + attributes
