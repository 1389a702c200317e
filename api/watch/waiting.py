"""Waiting for news and for the client at once, with one poll and no timer.

The peer's FIN or RST wakes the poll, so a watch ends the moment its client does; keepalive probes on the connection
(api.server) turn a client that vanished without a word into the same thing.
"""

import os
import select
import socket
import threading
from typing import Final

# The peer will send nothing more. A client that half-closes on purpose does not wait for watch events.
_GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class ConnectionWaiter:
    """An api.watch.stream.Waiter for one HTTP connection."""

    def __init__(self, connection: socket.socket | None) -> None:
        self._news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._open = True
        self._poll = select.poll()
        self._poll.register(self._news, select.POLLIN)
        if connection is not None:
            self._poll.register(connection.fileno(), _GONE)

    def wake(self) -> None:
        with self._lock:
            if self._open:
                os.eventfd_write(self._news, 1)

    def wait(self, seconds: float) -> bool:
        ready = dict(self._poll.poll(max(seconds, 0) * 1000))
        if ready.pop(self._news, 0):
            os.eventfd_read(self._news)
        return not ready

    def close(self) -> None:
        """The number of a closed descriptor is soon somebody else's: nobody may wake it any more."""
        with self._lock:
            self._open = False
            os.close(self._news)
