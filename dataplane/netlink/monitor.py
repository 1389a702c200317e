"""What changed among links, addresses and routes of a namespace, as it happens.

A change says what to look at again, never what is there now: the kernel tells nobody about the IPv4 routes it drops
when their link goes down, and drops news when the reader is slow. Then comes a change of kind OVERRUN: look at everything.
"""

import errno
import select
import socket
import struct
from dataclasses import dataclass
from enum import Enum

from dataplane.netlink import transport
from dataplane.netlink.objects import Protocol, Scope

# include/uapi/linux/rtnetlink.h, the multicast groups as bits
RTMGRP_LINK = 0x1
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV4_ROUTE = 0x40
RTMGRP_IPV6_IFADDR = 0x100
RTMGRP_IPV6_ROUTE = 0x400
GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE

SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h
_RECEIVE_BUFFER = 1 << 20
_READ = 1 << 16
_FIXED_PART = 8  # of the shortest: struct ifaddrmsg
RT_TABLE_MAIN = 254


class Kind(Enum):
    LINK = "link"
    ADDRESS = "address"
    ROUTE = "route"
    OVERRUN = "overrun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`index` is the link's for LINK and ADDRESS, `protocol` is the route's for ROUTE."""

    kind: Kind
    index: int = 0
    protocol: int = 0


OVERRUN = Change(kind=Kind.OVERRUN)
_KINDS = {
    16: Kind.LINK,  # RTM_NEWLINK
    17: Kind.LINK,  # RTM_DELLINK
    20: Kind.ADDRESS,  # RTM_NEWADDR
    21: Kind.ADDRESS,  # RTM_DELADDR
    24: Kind.ROUTE,  # RTM_NEWROUTE
    25: Kind.ROUTE,  # RTM_DELROUTE
}


def parse_changes(data: bytes) -> list[Change]:
    """Read the fixed part of each message of one datagram.

    Dropped is what the kernel does by itself for every link that comes up: IPv6 link-local addresses, and routes outside
    the main table or of IPv6 to them. What is cut short is as good as an overrun.
    """
    found = (_change(message) for message in transport.messages(data) if message.type in _KINDS)
    return [change for change in found if change]


def _change(message: transport.Message) -> Change | None:
    kind, body = _KINDS[message.type], message.body
    if len(body) < _FIXED_PART:
        return OVERRUN
    family, scope = body[0], body[3]  # ifa_family, ifa_scope
    table, protocol = body[4], body[5]  # rtm_table, rtm_protocol
    if kind is Kind.ROUTE:
        automatic = table != RT_TABLE_MAIN or (family == socket.AF_INET6 and protocol == Protocol.KERNEL)
        return None if automatic else Change(kind=kind, protocol=protocol)
    if kind is Kind.ADDRESS and family == socket.AF_INET6 and scope == Scope.LINK:
        return None
    return Change(kind=kind, index=struct.unpack_from("=I", body, 4)[0])  # ifi_index and ifa_index stand alike


class Monitor:
    """A subscription that begins when it is made: what is read from the kernel afterwards cannot miss a change."""

    def __init__(self, netns_fd: int | None = None, *, receive_buffer: int = _RECEIVE_BUFFER) -> None:
        self._socket = transport.open_socket(netns_fd, groups=GROUPS)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer)
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def changes(self, timeout: float) -> list[Change]:
        """Wait up to `timeout` seconds for news and return all that has come, an empty list if none."""
        if not self._poll.poll(timeout * 1000):
            return []
        found: list[Change] = []
        while (news := self._read()) is not None:
            found += news
        return found

    def _read(self) -> list[Change] | None:
        try:
            return parse_changes(self._socket.recv(_READ))
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return [OVERRUN]
            raise

    def close(self) -> None:
        self._socket.close()
