"""The HTTPS server: cheroot's parser and event loop, with the parts replaced that long watches need.

- The TLS handshake happens in the request's thread, with a short time limit. Where cheroot does it, between accept
  and accept, one client that connects and says nothing keeps everybody else out.
- Threads grow with the number of watches (api.workers).
- Sockets may be inherited, already listening, from another network namespace.
- A peer that vanished is noticed by the kernel's keepalive and user timeout within half a minute.
"""

import errno
import logging
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import cheroot.connections
import cheroot.makefile
import cheroot.server
import cheroot.ssl
import cheroot.wsgi
import structlog

from api.views import CONNECTION
from api.workers import Workers

log = structlog.get_logger(__name__)

_HANDSHAKE_SECONDS: Final = 10.0
# Between requests and within one. Longer than the 90 s after which Go's client drops idle connections itself: a
# connection must not be closed here just as a request is on its way.
_IDLE_SECONDS: Final = 120
_BACKLOG: Final = 512
_MOST_IDLE: Final = 2000
_MOST_UNREAD: Final = 64 * 1024 * 1024
_UNREAD_SECONDS: Final = 5.0
_MAX_HEADER: Final = 64 * 1024
_POLL_SECONDS: Final = 0.2  # how soon a stop is noticed
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


def tls_context(certificate_file: str) -> ssl.SSLContext:
    """TLS as a server, with the certificate and key in one file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Servers:
    """One application on several listening sockets, sharing threads."""

    def __init__(self, sockets: Sequence[socket.socket], app: Callable[..., Any], context: ssl.SSLContext) -> None:
        self._workers = Workers()
        self._servers = [_Server(listening, app, context, self._workers) for listening in sockets]

    def start(self) -> None:
        """Serve from threads of its own."""
        for server in self._servers:
            server.prepare()
            threading.Thread(target=server.serve, name="accept", daemon=True).start()

    def stop(self, seconds: float) -> None:
        """Accept nothing more, and wait so long for requests under way. End the watches before."""
        for server in self._servers:
            server.leave()
        self._workers.stop(seconds)


class _Server(cheroot.wsgi.Server):
    """cheroot's server on a socket that is already listening."""

    def __init__(
        self, listening: socket.socket, app: Callable[..., Any], context: ssl.SSLContext, workers: Workers
    ) -> None:
        super().__init__(listening.getsockname()[:2], app, server_name="podwire-api", timeout=_IDLE_SECONDS)
        self._listening = listening
        self.requests = workers
        self.gateway = _Gateway
        self.ConnectionClass = _Connection
        self.ssl_adapter = _Tls(context)
        self.keep_alive_conn_limit = _MOST_IDLE
        self.max_request_header_size = _MAX_HEADER

    def prepare(self) -> None:
        for option in _KEEPALIVE:
            self._listening.setsockopt(*option)  # accepted sockets inherit them
        self._listening.settimeout(1)
        self._listening.listen(_BACKLOG)
        self.socket = self._listening
        self._connections = cheroot.connections.ConnectionManager(self)
        self.ready = True

    def serve(self) -> None:
        while self.ready:
            try:
                self._connections.run(_POLL_SECONDS)
            except Exception:
                log.exception("accepting failed")
                time.sleep(_POLL_SECONDS)  # out of descriptors, say: the reason may last

    def process_conn(self, conn: Any) -> None:
        try:
            self.requests.put(conn)
        except queue.Full:
            log.warning("too many requests at once, connection closed", client=conn.remote_addr)
            conn.close()

    def leave(self) -> None:
        """Stop accepting, without cheroot's knock on its own address: that may be in another namespace."""
        self.ready = False
        self._connections.stop()
        self._listening.close()
        self._connections.close()

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:  # noqa: FBT001, FBT002 - cheroot's signature
        log.log(level, "http", message=msg.strip(), exc_info=traceback)


class _Connection(cheroot.server.HTTPConnection):
    """A connection that shakes hands when a thread has time for it."""

    _is_greeted = False

    def communicate(self) -> bool:
        if not self._is_greeted and not self._greet():
            return False
        return bool(super().communicate())  # type: ignore[no-untyped-call]

    def _greet(self) -> bool:
        try:
            self.socket.settimeout(_HANDSHAKE_SECONDS)
            self.socket.do_handshake()
            self.socket.settimeout(_IDLE_SECONDS)
        except OSError as error:
            log.debug("no TLS handshake", client=self.remote_addr, error=str(error))
            return False
        self._is_greeted = True
        return True


class _Gateway(cheroot.wsgi.Gateway_10):
    """WSGI, and the client's socket with it: a watch waits on that, too."""

    def __init__(self, req: Any) -> None:
        super().__init__(req)
        self.env[CONNECTION] = req.conn.socket

    def respond(self) -> None:
        """Write every chunk, also an empty one: with it an application sends its headers before it has anything to say."""
        response = self.req.server.wsgi_app(self.env, self.start_response)
        try:
            for chunk in response:
                self.write(chunk)
        finally:
            self.req.ensure_headers_sent()
            response.close()
        self._read_on()

    def _read_on(self) -> None:
        """Take in what is left of a refused body: closing on it would reset the connection, answer and all."""
        if not self.req.close_connection:
            return
        left = min(getattr(self.req.rfile, "remaining", 0), _MOST_UNREAD)
        self.req.conn.socket.settimeout(_UNREAD_SECONDS)
        while left > 0 and (piece := self.req.rfile.read(min(left, 1 << 16))):
            left -= len(piece)


class _Tls(cheroot.ssl.Adapter):
    """TLS without a handshake on accept."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__("", "")
        self.context = context

    def bind(self, sock: socket.socket) -> socket.socket:
        return sock

    def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, str]]:
        wrapped = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return wrapped, self.get_environ()

    def get_environ(self) -> dict[str, str]:
        return {"wsgi.url_scheme": "https", "HTTPS": "on"}

    def makefile(self, sock: ssl.SSLSocket, mode: str = "r", bufsize: int = -1) -> "_Reader | _Writer":
        return _Reader(sock, mode, bufsize) if "r" in mode else _Writer(sock)


class _Reader(cheroot.makefile.StreamReader):
    """cheroot's reader, which also sees what TLS has already decrypted."""

    def __init__(self, sock: ssl.SSLSocket, mode: str, bufsize: int) -> None:
        super().__init__(sock, mode, bufsize)
        self._sock = sock

    def has_data(self) -> bool:
        return bool(super().has_data() or self._sock.pending())  # type: ignore[no-untyped-call]


class _Writer:
    """Writes at once and in linear time; cheroot's copies what is left after every TLS record."""

    closed = False

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self.bytes_written = 0

    def write(self, chunk: bytes) -> int:
        try:
            self._sock.sendall(chunk)
        except ssl.SSLEOFError as error:  # TLS' word for a peer that is gone; the server below knows the plain one
            raise BrokenPipeError(errno.EPIPE, str(error)) from error
        self.bytes_written += len(chunk)
        return len(chunk)

    def flush(self) -> None: ...

    def close(self) -> None: ...
