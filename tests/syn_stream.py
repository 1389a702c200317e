"""A client that begins connections much faster than a socket could, to meet the moment in which something changes.

SYN after SYN from a raw socket, each with a port of its own; what comes back as a refusal was refused. The client's own
kernel knows none of these connections and ends them as soon as they are answered.
"""

import itertools
import socket
import struct
import threading
from ipaddress import IPv4Address
from typing import Self

_REFUSAL = 0x14  # RST and ACK: a reset that a socket takes for the answer to its SYN (RFC 9293 3.10.7.3)
_PORTS = range(10_000, 60_000)


class SynStream:
    """Made inside a client's namespace, used as a context; `sent`, `answered` and `refused` count."""

    def __init__(self, source: str, destination: str, port: int) -> None:
        self.sent = self.answered = self.refused = 0
        self._destination = destination
        self._packets = [_syn(IPv4Address(source), IPv4Address(destination), own, port) for own in _PORTS]
        self._stop = threading.Event()
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._receiver = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self._receiver.settimeout(0.1)
        self._threads = [threading.Thread(target=run) for run in (self._send, self._receive)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._sender.close()
        self._receiver.close()

    def _send(self) -> None:
        for packet in itertools.cycle(self._packets):
            if self._stop.is_set():
                return
            self._sender.sendto(packet, (self._destination, 0))
            self.sent += 1

    def _receive(self) -> None:
        while not self._stop.is_set():
            try:
                packet = self._receiver.recv(100)
            except TimeoutError:
                continue
            self.answered += 1
            self.refused += packet[33] & _REFUSAL == _REFUSAL


def _syn(source: IPv4Address, destination: IPv4Address, own: int, port: int) -> bytes:
    header = struct.pack("!HHIIBBHHH", own, port, own, 0, 5 << 4, 0x02, 65535, 0, 0)
    pseudo = source.packed + destination.packed + struct.pack("!HH", socket.IPPROTO_TCP, len(header))
    tcp = header[:16] + struct.pack("!H", _checksum(pseudo + header)) + header[18:]
    # The kernel fills in the checksum of the IP header.
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0)
    return ip + source.packed + destination.packed + tcp


def _checksum(payload: bytes) -> int:
    total = sum(struct.unpack(f"!{len(payload) // 2}H", payload))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
