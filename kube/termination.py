"""The end of a program as Kubernetes and systemd ask for it: SIGTERM, some seconds of grace, SIGKILL."""

import contextlib
import signal
from queue import Empty, SimpleQueue


class Termination:
    """Whether SIGTERM or SIGINT came since this was made; for the main thread, where Python runs signal handlers.

    No Event: a handler that interrupts the main thread inside Event.wait would wait in Event.set for a lock that this very
    thread holds. SimpleQueue.put may interrupt anything.
    """

    def __init__(self) -> None:
        self.is_asked_for = False
        self._asked: SimpleQueue[None] = SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def wait(self, seconds: float | None = None) -> bool:
        """Return when it is asked for, or after so many seconds; whether it was."""
        if not self.is_asked_for:
            with contextlib.suppress(Empty):
                self._asked.get(timeout=seconds)
        return self.is_asked_for

    def _ask(self, *_: object) -> None:
        self.is_asked_for = True
        self._asked.put(None)
