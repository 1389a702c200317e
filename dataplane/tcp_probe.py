"""Making a TCP stack show itself: a segment it cannot accept, to which it answers with one that has the right numbers.

RFC 9293 3.10.7.4: an unacceptable segment is answered with an acknowledgement. That is a valid packet of the
connection, so what filters packets can answer it with a reset that the sender believes. The probe itself is in nobody's
window and changes nothing. Whoever sends it must keep conntrack away from it: see PROBE.
"""

import socket
import struct
import threading
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from dataplane import netns
from dataplane.errors import from_errno

Address = IPv4Address | IPv6Address

SEQUENCE: Final = 0x706F_6477
URGENT: Final = 0x6972
# Its sequence number, with an urgent pointer that no flag makes one: nobody else sends this.
PROBE: Final = f"tcp sequence {SEQUENCE} tcp urgptr {URGENT}"

_ACK: Final = 0x10
_HEADER: Final = struct.Struct("!HHIIBBHHH")
_HOPS: Final = 64


class End(NamedTuple):
    address: Address
    port: int


class TcpProbe:
    """Sends from a network namespace; None is the calling thread's. Needs CAP_NET_RAW."""

    def __init__(self, *, netns_fd: int | None = None) -> None:
        self._netns_fd = netns_fd
        self._lock = threading.Lock()
        self._sockets: dict[int, socket.socket] = {}

    def close(self) -> None:
        for opened in self._sockets.values():
            opened.close()

    def send(self, sender: End, receiver: End) -> None:
        """Send one in the name of one end of a connection to the other. Raises DataplaneError."""
        try:
            self._socket(receiver.address.version).sendto(packet(sender, receiver), (str(receiver.address), 0))
        except OSError as error:
            raise from_errno(f"probe {receiver.address}:{receiver.port}", error.errno or 0) from error

    def _socket(self, version: int) -> socket.socket:
        with self._lock:
            if version not in self._sockets:
                opened = (
                    _open(version) if self._netns_fd is None else netns.run_in(self._netns_fd, lambda: _open(version))
                )
                self._sockets[version] = opened
            return self._sockets[version]


def _open(version: int) -> socket.socket:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)


def packet(sender: End, receiver: End) -> bytes:
    """The probe with its IP header; of IPv4 the kernel fills in checksum and id."""
    source, destination = sender.address.packed, receiver.address.packed
    tcp = _HEADER.pack(sender.port, receiver.port, SEQUENCE, 0, 5 << 4, _ACK, 0, 0, URGENT)
    pseudo = source + destination + struct.pack("!II", len(tcp), socket.IPPROTO_TCP)
    tcp = _HEADER.pack(sender.port, receiver.port, SEQUENCE, 0, 5 << 4, _ACK, 0, _checksum(pseudo + tcp), URGENT)
    if receiver.address.version == 6:
        return struct.pack("!IHBB", 6 << 28, len(tcp), socket.IPPROTO_TCP, _HOPS) + source + destination + tcp
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, _HOPS, socket.IPPROTO_TCP, 0)
    return ip + source + destination + tcp


def _checksum(payload: bytes) -> int:
    """RFC 1071. The pseudo headers of IPv4 and IPv6 add up to the same."""
    total: int = sum(struct.unpack(f"!{len(payload) // 2}H", payload))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
