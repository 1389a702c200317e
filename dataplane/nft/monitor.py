"""Who changes nft tables: the kernel's own notices, one value for each table and transaction.

Every transaction ends with a notice of the new generation that names its process; what came before it on the same socket
tells which tables it touched. The changes of one chosen sender, podwire's own, are dropped inside the kernel: a cold
start of ten thousand Services sends a hundred thousand notices that nobody needs.
"""

import contextlib
import ctypes
import errno
import select
import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from dataplane.errors import from_errno
from dataplane.nft import decode, netfilter_socket, wire
from dataplane.nft.interface import Change

SO_ATTACH_FILTER = 26
NLMSG_PID_OFFSET = 12
BPF_LD_W_ABS = 0x20
BPF_JMP_JEQ_K = 0x15
BPF_RET_K = 0x06
ACCEPT = 0xFFFFFFFF

_LOST = Change(table="", family=0, port_id=0, process_id=0, command="", what=frozenset({"events lost"}))


class Monitor:
    """Subscribed from construction on. `ignore` is the port id of a socket of our own, as `LinuxNft.port_id`."""

    def __init__(self, *, netns_fd: int | None = None, ignore: int | None = None) -> None:
        self._touched: dict[tuple[str, int], set[str]] = {}
        self._woken, self._waker = socket.socketpair()
        self._socket = netfilter_socket.open_socket(netns_fd)
        if ignore is not None:
            _drop_from(self._socket, ignore)
        self._socket.setsockopt(
            netfilter_socket.SOL_NETLINK, netfilter_socket.NETLINK_ADD_MEMBERSHIP, wire.NFNLGRP_NFTABLES
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for opened in (self._socket, self._woken, self._waker):
            opened.close()

    def stop(self) -> None:
        """Let `changes` end, from any thread, before it begins or after it ended."""
        with contextlib.suppress(OSError):  # closed already
            self._waker.send(b".")

    def changes(self) -> Iterator[Change]:
        """Wait for changes and yield them until `stop`."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while self._woken.fileno() not in dict(poll.poll()):
            yield from self._read()

    def _read(self) -> Iterator[Change]:
        try:
            datagram = self._socket.recv(netfilter_socket.RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise from_errno("receive nftables notices", error.errno or 0) from error
            self._touched.clear()
            yield _LOST
            return
        for message in decode.messages(datagram):
            yield from self._take(message)

    def _take(self, message: decode.Message) -> Iterator[Change]:
        found = decode.fields(message)
        if message.kind != wire.NFT_MSG_NEWGEN:
            what = self._touched.setdefault((decode.table_name(found), message.family), set())
            what.add(decode.WHAT.get(message.kind, "other"))
            return
        touched, self._touched = self._touched, {}
        by = decode.generation(found)
        for (table, family), what in touched.items():
            yield Change(
                table=table,
                family=family,
                port_id=message.port_id,
                process_id=by.process_id,
                command=by.command,
                what=frozenset(what),
            )


def _drop_from(opened: socket.socket, port_id: int) -> None:
    """Attach a socket filter: all messages of a datagram have one sender, so the first one's header decides."""
    instructions = b"".join(
        # code, jump if true, jump if false, operand; a load reads big endian what the header holds in host order
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (BPF_LD_W_ABS, 0, 0, NLMSG_PID_OFFSET),
            (BPF_JMP_JEQ_K, 0, 1, socket.htonl(port_id)),
            (BPF_RET_K, 0, 0, 0),
            (BPF_RET_K, 0, 0, ACCEPT),
        )
    )
    program = ctypes.create_string_buffer(instructions)
    # struct sock_fprog: the number of instructions, and a pointer to them
    opened.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 4, ctypes.addressof(program)))
