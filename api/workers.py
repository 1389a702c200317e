"""Threads that answer requests: as many as there are requests, kept for a while when there are fewer.

A watch holds its thread for as long as it lives, so a pool of fixed size would be used up by watches and starve
everything else. Threads here are made when a request finds none idle.
"""

import contextlib
import queue
import threading
import time
from typing import Final, Protocol

import structlog

log = structlog.get_logger(__name__)

_MOST: Final = 2000
_IDLE_SECONDS: Final = 30.0


class Connection(Protocol):
    """A cheroot connection: one that has been accepted and may have a request to read."""

    server: "Owner"

    def communicate(self) -> bool:
        """Answer one request; True when the connection stays open for another."""
        ...

    def close(self) -> None: ...


class Owner(Protocol):
    """The server that accepted a connection, and watches over it between requests."""

    def put_conn(self, conn: Connection) -> None: ...


class Workers:
    """A cheroot thread pool (its `requests`) that grows with the work; several servers may share it."""

    def __init__(self, *, most: int = _MOST, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._most = most
        self._idle_seconds = idle_seconds
        self._waiting: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._threads = 0
        self._idle = 0
        self._stopping = False

    @property
    def idle(self) -> int:
        return self._idle

    @property
    def qsize(self) -> int:
        return self._waiting.qsize()

    def start(self) -> None:
        """Nothing: the first request starts the first thread."""

    def put(self, conn: Connection) -> None:
        """Have the connection answered; raises queue.Full when there are too many."""
        with self._lock:
            if self._idle:
                # Counted as busy from here on: else a second connection would wait for the same thread.
                self._idle -= 1
                self._waiting.put(conn)
                return
            if self._threads >= self._most or self._stopping:
                raise queue.Full
            try:
                threading.Thread(target=self._run, args=(conn,), name="request", daemon=True).start()
            except RuntimeError as error:  # the system has no thread left to give
                raise queue.Full from error
            self._threads += 1

    def stop(self, timeout: float = 5.0) -> None:
        """Wait until every request is answered, but not longer than so many seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._stopping = True
            while self._threads > self._idle and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def _run(self, conn: Connection | None) -> None:
        while conn is not None:
            _answer(conn)
            conn = self._next()

    def _next(self) -> Connection | None:
        with self._changed:
            self._idle += 1
            self._changed.notify_all()
        with contextlib.suppress(queue.Empty):
            return self._waiting.get(timeout=self._idle_seconds)
        with self._lock:
            with contextlib.suppress(queue.Empty):
                return self._waiting.get_nowait()  # put for this thread just as it gave up
            self._idle -= 1
            self._threads -= 1
        return None


def _answer(conn: Connection) -> None:
    """Answer one request; nothing that happens to it may end the thread that others count on."""
    stays = False
    try:
        stays = conn.communicate()
    except OSError as error:
        log.debug("connection lost", error=str(error))
    except Exception:
        log.exception("connection failed")
    finally:
        if stays:
            conn.server.put_conn(conn)
        else:
            with contextlib.suppress(OSError):
                conn.close()
