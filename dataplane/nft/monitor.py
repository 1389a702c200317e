"""Who changes nft tables: the kernel's own notices, one value for each table and transaction.

Every transaction ends with a notice of the new generation that names its process; what came before it on the same socket
tells which tables it touched.

A subscription has a price: while anybody subscribes, in any network namespace of the machine, the kernel makes a notice
of every single object of a transaction, which takes ten times as long as the change itself. So podwire's own commits are
made while its subscription is suspended, and the generation tells whether somebody else committed meanwhile.
"""

import contextlib
import errno
import select
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from dataplane.errors import from_errno
from dataplane.nft import decode, netfilter_socket, wire
from dataplane.nft.interface import Change

NETLINK_ADD_MEMBERSHIP = 1
NETLINK_DROP_MEMBERSHIP = 2

_LOST = Change(table="", family=0, port_id=0, process_id=0, command="", what=frozenset({"events lost"}))
_STOP, _MISSED = b"s", b"m"


class LinuxMonitor:
    """Implements `interface.Monitor`; subscribed from construction on."""

    def __init__(self, netns_fd: int | None = None) -> None:
        self._touched: dict[tuple[str, int], set[str]] = {}
        self._wishes, self._wishing = socket.socketpair()
        self._lock = threading.Lock()  # nobody closes the sockets while they are being used to suspend
        self._socket = netfilter_socket.open_socket(netns_fd)
        self._subscribe(NETLINK_ADD_MEMBERSHIP)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            for opened in (self._socket, self._wishes, self._wishing):
                opened.close()

    def stop(self) -> None:
        self._wish(_STOP)

    def changes(self) -> Iterator[Change]:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wishes, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._wishes.fileno() in ready:
                if self._wishes.recv(1) == _STOP:
                    return
                self._touched.clear()
                yield _LOST
            if self._socket.fileno() in ready:
                yield from self._read()

    @contextlib.contextmanager
    def suspended(self, generation: Callable[[], int]) -> Iterator[None]:
        """Let a transaction of our own pass unheard; if it fails inside, an exception leaves this context."""
        with self._lock:
            if self._socket.fileno() < 0:  # closed
                yield
                return
            before, allowed = generation(), 0
            self._subscribe(NETLINK_DROP_MEMBERSHIP)
            try:
                yield
                allowed = 1
            finally:
                self._subscribe(NETLINK_ADD_MEMBERSHIP)
                # A transaction that turns out to change nothing does not raise the generation.
                if generation() - before not in {0, allowed}:
                    self._wish(_MISSED)

    def _wish(self, what: bytes) -> None:
        with contextlib.suppress(OSError):  # closed already, or so many are waiting that one more says nothing new
            self._wishing.send(what, socket.MSG_DONTWAIT)

    def _subscribe(self, option: int) -> None:
        self._socket.setsockopt(netfilter_socket.SOL_NETLINK, option, wire.NFNLGRP_NFTABLES)

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
