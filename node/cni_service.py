"""The plugin's commands, served over a unix socket so that the executable a runtime starts can be a thin shim.

A fixed number of workers take connections from one listening socket; so many more wait in its backlog. Who comes beyond that
waits for a place there, for as long as a shim has patience, and is told to try again later.
Each connection carries one request and one answer. Nothing of a request outlives it; a stopped or killed agent leaves the
shim to do the work itself.
"""

import contextlib
import errno
import fcntl
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

WORKERS: Final = 16
WAITING: Final = 1024
# A client that sends slowly or never reads would hold a worker for ever.
CLIENT_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 0.5
_PATH_MAX: Final = 107  # struct sockaddr_un without the final NUL

Exchange = Callable[[socket.socket], None]


class SocketTaken(Exception):
    """Another agent serves this socket."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(path, owner)
        self.path = path
        self.owner = owner

    def __str__(self) -> str:
        return f"--socket {self.path}: process {self.owner} serves it already; stop that or choose another path"


class CniService:
    """Serves from `start` to `stop`. `open_exchange` makes a worker's own serving function, in the worker's thread."""

    def __init__(
        self,
        path: Path,
        open_exchange: Callable[[], Exchange],
        *,
        workers: int = WORKERS,
        waiting: int = WAITING,
        patience: float = CLIENT_SECONDS,
    ) -> None:
        self._path = path
        self._waiting = waiting
        self._patience = patience
        self._open_exchange = open_exchange
        self._lock_fd = -1
        self._stopping = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._threads = [threading.Thread(target=self._run, name=f"cni-{number}") for number in range(workers)]

    def start(self) -> None:
        """Begin to serve; a socket file that a dead agent left behind is replaced. Raises SocketTaken, OSError."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_fd = _lock(self._path)
            _listen(self._listener, self._path, self._waiting)
        except BaseException:
            self._close()
            raise
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take no more requests, finish those that run, and remove the socket file."""
        self._stopping.set()
        # From now on a shim finds nobody and works alone.
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes every worker that waits in accept
        for thread in self._threads:
            thread.join()
        self._close()

    def _close(self) -> None:
        self._listener.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)

    def _run(self) -> None:
        while (exchange := self._opened()) is None:
            if self._stopping.wait(_RETRY_SECONDS):
                return
        while (connection := self._accepted()) is not None:
            with connection:
                connection.settimeout(self._patience)
                _serve(connection, exchange)

    def _opened(self) -> Exchange | None:
        """The worker's serving function; None when it cannot be had now."""
        try:
            return self._open_exchange()
        except Exception:  # the worker's edge: without workers the backlog would take requests that nobody answers
            log.exception("a worker of the CNI socket cannot start; trying again", seconds=_RETRY_SECONDS)
            return None

    def _accepted(self) -> socket.socket | None:
        """The next connection; None when the service stops."""
        while not self._stopping.is_set():
            try:
                return self._listener.accept()[0]
            except OSError as error:
                if self._stopping.wait(_RETRY_SECONDS):  # out of descriptors, say: the reason may pass
                    return None
                log.warning("the CNI socket takes no connection; trying again", error=str(error))
        return None


def _serve(connection: socket.socket, exchange: Exchange) -> None:
    try:
        exchange(connection)
    except OSError as error:
        log.warning("a client of the CNI socket went away or was too slow", error=str(error) or type(error).__name__)
    except Exception:  # the worker's edge: one bad request must not cost the worker
        log.exception("a request on the CNI socket failed")


def _lock(path: Path) -> int:
    """Hold the socket's lock file as long as the process lives: the kernel lets go of it even after kill -9."""
    fd = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        raise SocketTaken(path, owner or "unknown") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _listen(listener: socket.socket, path: Path, waiting: int) -> None:
    """Bind under another name first: whoever finds the socket finds it private and listening."""
    prepared = path.with_name(f".{path.name}")
    if len(os.fsencode(prepared)) > _PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, f"longer than {_PATH_MAX - 1} bytes", str(path))
    prepared.unlink(missing_ok=True)
    listener.bind(str(prepared))
    prepared.chmod(0o600)
    listener.listen(waiting - 1)  # unix(7) lets one more wait than it is told
    prepared.replace(path)
