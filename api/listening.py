"""Sockets to serve on: addresses to bind, or sockets somebody opened for us, perhaps in another namespace."""

import ipaddress
import os
import socket
from collections.abc import Sequence

from api.certificates import IPAddress


class CannotListen(Exception):
    """A --listen that names no usable socket."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text, reason)
        self.text = text
        self.reason = reason

    def __str__(self) -> str:
        return f"--listen {self.text}: {self.reason}"


def listen(text: str) -> socket.socket:
    """Open `ADDR:PORT` (`[ADDR]:PORT` for IPv6), or take over `fd:N`."""
    kind, _, rest = text.rpartition(":")
    try:
        return _inherited(text, rest) if kind == "fd" else _bound(text, kind, rest)
    except OSError as error:
        raise CannotListen(text, error.strerror or str(error)) from error


def _inherited(text: str, number: str) -> socket.socket:
    if not number.isdecimal():
        raise CannotListen(text, f"{number!r} is not the number of a file descriptor")
    sock = socket.socket(fileno=int(number))
    os.set_inheritable(sock.fileno(), False)
    if sock.type != socket.SOCK_STREAM or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        raise CannotListen(text, "it is not a TCP socket")
    return sock


def _bound(text: str, host: str, port: str) -> socket.socket:
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        raise CannotListen(text, f"{error}; write ADDR:PORT, [ADDR]:PORT or fd:N") from error
    if not port.isdecimal() or int(port) > 0xFFFF:
        raise CannotListen(text, f"{port!r} is not a port: 0 to 65535")
    sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((str(address), int(port)))
    except OSError:
        sock.close()
        raise
    return sock


def address_of(sock: socket.socket) -> IPAddress:
    return ipaddress.ip_address(sock.getsockname()[0])


def most_reachable(sockets: Sequence[socket.socket], version: int) -> tuple[IPAddress, int]:
    """The address to tell others: the first that is not this machine's own, of the preferred family if there is one."""
    found = [(address_of(sock), sock.getsockname()[1]) for sock in sockets]
    return min(found, key=lambda each: (each[0].is_loopback or each[0].is_unspecified, each[0].version != version))


def format_address(sock: socket.socket, *, reachable: bool = False) -> str:
    """ADDR:PORT of a socket; `reachable` puts loopback in the place of a wildcard."""
    address, port = address_of(sock), sock.getsockname()[1]
    if reachable and address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
