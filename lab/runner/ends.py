"""Who is to be told when a process ends: one thread for all of them, asleep until one does."""

import os
import select
import threading
from collections.abc import Callable

from lab import processes
from lab.process import Process


class Ends:
    """Watches processes from the moment they are named; tells of each end once, from its own thread."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._poll = select.epoll()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._stop, select.EPOLLIN)
        self._watched: dict[int, str] = {}  # by descriptor: what is told
        self._thread = threading.Thread(target=self._run, name="ends", daemon=True)
        self._thread.start()

    def watch(self, process: Process, word: str) -> None:
        """Tell this word at the end of the process; at once if it has ended."""
        descriptor = processes.open_pidfd(process)
        if descriptor is None:
            self._tell(word)
            return
        self._watched[descriptor] = word
        self._poll.register(descriptor, select.EPOLLIN)

    def close(self) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        for descriptor in (self._stop, *self._watched):
            os.close(descriptor)
        self._poll.close()

    def _run(self) -> None:
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._stop:
                    return
                self._poll.unregister(descriptor)
                os.close(descriptor)
                self._tell(self._watched.pop(descriptor))
