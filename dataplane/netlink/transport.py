"""One rtnetlink socket: a request goes out, its answers come back, a refusal is an error with the request's text.

The socket is opened by a thread that has entered the wanted namespace and stays there for good; any thread may use it,
one exchange at a time. pyroute2's own sockets are not used: each of them opens another socket in every thread that
touches it, in that thread's namespace.
"""

import contextlib
import errno
import fcntl
import socket
import struct
import threading
from collections.abc import Iterator
from typing import NamedTuple

from dataplane import netns
from dataplane.errors import DataplaneError, NotFound, from_errno
from dataplane.netlink.decode import attributes

# include/uapi/linux/netlink.h
NETLINK_ROUTE = 0
SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_ACK_TLVS = 0x200
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_DUMP = 0x300
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSGERR_ATTR_MSG = 1

SIOCGIFNAME = 0x8910  # include/uapi/linux/sockios.h
SIOCGIFINDEX = 0x8933
IFNAMSIZ = 16

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port
HEADER_BYTES = _HEADER.size
_SEQUENCE_OFFSET = 8
_BUFFER = 1 << 16  # the kernel fills at most 32 KiB per read of a dump
_DUMP_ATTEMPTS = 10


class Message(NamedTuple):
    """A message as it came: `body` is without the header, `whole` is with it."""

    type: int
    flags: int
    sequence: int
    body: bytes
    whole: bytes


def open_socket(netns_fd: int | None = None, *, groups: int = 0) -> socket.socket:
    """Open a rtnetlink socket in a namespace, or in the calling thread's own."""
    if netns_fd is None:
        return _open(groups)
    return netns.run_in(netns_fd, lambda: _open(groups))


def _open(groups: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
    try:
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            sock.setsockopt(SOL_NETLINK, option, 1)
        sock.bind((0, groups))
    except BaseException:
        sock.close()
        raise
    return sock


def messages(data: bytes) -> Iterator[Message]:
    """Split what one read returned into its messages."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        end = offset + max(length, _HEADER.size)
        yield Message(kind, flags, sequence, data[offset + _HEADER.size : end], data[offset:end])
        offset = end + (-end % 4)


def request(kind: int, flags: int, body: bytes) -> bytearray:
    """A message to send; the exchange numbers it."""
    return bytearray(_HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body)


class Transport:
    """Request and answer over a long-lived socket."""

    def __init__(self, netns_fd: int | None = None) -> None:
        self._socket = open_socket(netns_fd)
        self._lock = threading.Lock()
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def exchange(self, text: str, request: bytearray) -> list[bytes]:
        """Send one encoded request and return its answers. Errors carry `text`, the request in words."""
        with self._lock:
            for _ in range(_DUMP_ATTEMPTS):
                answers = self._attempt(text, request)
                if answers is not None:
                    return answers
        raise DataplaneError(
            text, errno.EINTR, detail="the kernel's list changed during each of the attempts to read it"
        )

    def _attempt(self, text: str, request: bytearray) -> list[bytes] | None:
        self._sequence = self._sequence % 0xFFFFFFFF + 1
        struct.pack_into("=I", request, _SEQUENCE_OFFSET, self._sequence)
        try:
            self._socket.send(request)
            answers = [message for message in self._answers(text) if message.type not in {NLMSG_ERROR, NLMSG_DONE}]
        except OSError as error:
            raise from_errno(text, error.errno or 0, detail="netlink socket") from error
        # A dump the kernel marks as interrupted may have missed or doubled an entry.
        if any(message.flags & NLM_F_DUMP_INTR for message in answers):
            return None
        return [message.whole for message in answers]

    def _answers(self, text: str) -> Iterator[Message]:
        while True:
            for message in messages(self._socket.recv(_BUFFER)):
                # Answers to an exchange that was broken off carry an older number.
                if message.sequence != self._sequence:
                    continue
                if message.type in {NLMSG_ERROR, NLMSG_DONE}:
                    _raise_for(text, message)
                    return
                yield message

    def index_of(self, name: str, text: str) -> int:
        """The index of a link: an ioctl on the netlink socket asks the socket's namespace, in 2 µs."""
        request = struct.pack(f"{IFNAMSIZ}si20x", name.encode(), 0)
        try:
            return int(struct.unpack_from("i", fcntl.ioctl(self._socket, SIOCGIFINDEX, request), IFNAMSIZ)[0])
        except OSError as error:
            raise from_errno(text, error.errno or 0, detail=f"no link {name}") from error

    def name_of(self, index: int) -> str | None:
        request = struct.pack(f"{IFNAMSIZ}si20x", b"", index)
        with contextlib.suppress(OSError):
            return fcntl.ioctl(self._socket, SIOCGIFNAME, request)[:IFNAMSIZ].split(b"\0", 1)[0].decode()
        return None


def _raise_for(text: str, message: Message) -> None:
    code = -int(struct.unpack_from("=i", message.body)[0]) if len(message.body) >= 4 else 0
    if code > 0:
        raise _error(text, code, _explanation(message))


def _error(text: str, code: int, detail: str) -> DataplaneError:
    if code in {errno.ENETUNREACH, errno.EHOSTUNREACH} and text.startswith("route to "):
        return NotFound(text, code, detail=detail)
    return from_errno(text, code, detail=detail)


def _explanation(message: Message) -> str:
    """The kernel's own words, an attribute after the copy of the request's header."""
    if message.type != NLMSG_ERROR or not message.flags & NLM_F_ACK_TLVS:
        return ""
    words = attributes(message.body, 4 + _HEADER.size).get(NLMSGERR_ATTR_MSG, b"")
    return words.rstrip(b"\0").decode(errors="replace")
