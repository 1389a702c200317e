"""A netlink socket to netfilter in a given network namespace: the only place where nft bytes meet the kernel.

The kernel works a batch off inside sendmsg and has queued every refusal when it returns, so no acknowledgement is asked
for: an empty queue after sending means success.
"""

import errno
import socket
from collections.abc import Iterator

from dataplane import netns
from dataplane.errors import from_errno
from dataplane.nft import decode, wire

NETLINK_NETFILTER = 12
SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33

RECEIVE_BYTES = 1 << 17  # the kernel fills at most 32 KiB of a dump at once, but an element may need more
SEND_BUFFER = 1 << 20
RECEIVE_BUFFER = 1 << 23  # room for some 10,000 refusals, each charged about 800 bytes
SEND_OVERHEAD = 4096  # what netlink_sendmsg wants to be free beyond the message


def open_socket(netns_fd: int | None = None) -> socket.socket:
    """A socket bound in the namespace, for good; None is the namespace of the calling thread."""
    if netns_fd is None:
        return _open()
    return netns.run_in(netns_fd, _open)


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    try:
        opened.bind((0, 0))
        opened.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        opened.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except OSError as error:
        opened.close()
        raise from_errno("open a netfilter netlink socket", error.errno or 0) from error
    return opened


class NetfilterSocket:
    """Requests and their answers, one at a time: the caller holds a lock."""

    def __init__(self, netns_fd: int | None = None) -> None:
        self._socket = open_socket(netns_fd)
        self._send_buffer = 0
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def next_sequence(self) -> int:
        self._sequence = self._sequence % 0x7FFFFFFF + 1
        return self._sequence

    def transact(self, payload: bytes) -> list[decode.Answer]:
        """Send a batch and return the refusals. ENOBUFS among them: there were more than could be queued."""
        self._make_room(len(payload) + SEND_OVERHEAD)
        try:
            self._socket.send(payload)
        except OSError as error:
            return [decode.Answer(0, error.errno or errno.EIO, f"send {len(payload)} bytes")]
        return [answer for answer in self._queued() if answer.code]

    def _make_room(self, size: int) -> None:
        if size > self._send_buffer:
            self._send_buffer = max(size, SEND_BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, self._send_buffer)

    def _queued(self) -> Iterator[decode.Answer]:
        while True:
            try:
                datagram = self._socket.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                yield decode.Answer(0, error.errno or errno.EIO, "receive answers")
                if error.errno != errno.ENOBUFS:
                    return
                continue
            yield from (
                decode.answer(message) for message in decode.messages(datagram) if message.kind == wire.NLMSG_ERROR
            )

    def ask(self, question: bytes, sequence: int, request: str) -> decode.Message:
        """Send a question that has one answer. Raises NotFound and other DataplaneErrors."""
        self._socket.send(question)
        message = next(self._answers(sequence))
        _raise_refusal(message, request)
        return message

    def dump(self, question: bytes, sequence: int, request: str) -> list[decode.Message]:
        """Send a question that has a list of answers. Raises NotFound and other DataplaneErrors."""
        self._socket.send(question)
        found: list[decode.Message] = []
        for message in self._answers(sequence):
            _raise_refusal(message, request)
            if message.kind == wire.NLMSG_DONE:
                break
            found.append(message)
        return found

    def _answers(self, sequence: int) -> Iterator[decode.Message]:
        while True:
            for message in decode.messages(self._socket.recv(RECEIVE_BYTES)):
                if message.sequence == sequence:
                    yield message


def _raise_refusal(message: decode.Message, request: str) -> None:
    if message.kind in {wire.NLMSG_ERROR, wire.NLMSG_DONE}:
        refusal = decode.answer(message)
        if refusal.code:
            raise from_errno(request, refusal.code, detail=refusal.detail)
