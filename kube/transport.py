"""One API server over HTTP: pooled connections, TLS, credentials, and bodies that arrive whole or line by line.

It fails in two ways only: ApiError, when the server answered and refused, and Unreachable, when it did not answer. It
never retries and never follows a redirect (a redirect would carry the token elsewhere); whoever calls knows better
when to come again.
"""

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

import structlog
import urllib3
import urllib3.connection
import urllib3.exceptions

from kube.connection import Connection, ConnectionConfigError
from kube.errors import Unreachable, from_status

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 30.0
# Connections kept for reuse; a program has a watch per kind and a few writers.
_POOL: Final = 16
_READ: Final = 1 << 16

# A server that vanishes without a FIN (power, pulled cable, dropped conntrack entry) leaves a watch silent for ever:
# probe after 10 s, every 5 s, give up after 3 (tcp(7)); TCP_USER_TIMEOUT does the same while a request is unacknowledged.
_SOCKET_OPTIONS: Final[list[tuple[int, int, int | bytes]]] = [
    *urllib3.connection.HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
]


# NewConnectionError covers names that do not resolve.
_NOT_CONNECTED: Final = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.SSLError,
)


class _TokenFile:
    """A bearer token in a file that somebody renews: read again whenever the file is another one."""

    def __init__(self, path: Path, known: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._token = known

    def read(self) -> str:
        """Return the token; while the file is missing or empty, the last one (renewal is rename, but not always)."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            status = self._path.stat()
            identity = (status.st_ino, status.st_mtime_ns, status.st_size)
            if identity != self._seen:
                self._token = self._path.read_text(encoding="ascii").strip() or self._token
                self._seen = identity
        return self._token


class LineStream:
    """A response read line by line as it arrives. Another thread may `stop` it; closing gives the connection up."""

    def __init__(self, response: urllib3.BaseHTTPResponse, server: str) -> None:
        self._response = response
        self._server = server

    def __iter__(self) -> Iterator[bytes]:
        """Yield complete lines without their end; what comes after the last newline was cut off and is dropped."""
        rest = bytearray()
        with _unreachable(self._server):
            while piece := self._response.read1(_READ):
                rest += piece
                if b"\n" in piece:
                    *lines, tail = bytes(rest).split(b"\n")
                    rest = bytearray(tail)
                    yield from (line for line in lines if line.strip())

    def stop(self) -> None:
        """Wake up the thread that reads: its iteration ends or raises Unreachable. May be called at any time."""
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            self._response.shutdown()

    def close(self) -> None:
        self._response.close()


class Transport:
    """Requests to the server of one Connection. Any number of threads may use it."""

    def __init__(self, connection: Connection, user_agent: str) -> None:
        self.server = connection.server
        url = urlsplit(connection.server)
        self._prefix = url.path.rstrip("/")
        self._static_token = connection.token
        self._token_file = _TokenFile(connection.token_file, connection.token or "") if connection.token_file else None
        self._headers = {"Accept": "application/json", "User-Agent": user_agent}
        self._pool = _pool(connection, url.hostname or "", url.port)

    def close(self) -> None:
        self._pool.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """Return the body of a successful answer."""
        headers = {"Content-Type": content_type} if body is not None else {}
        with _unreachable(self.server):
            response = self._pool.urlopen(
                method,
                self._target(path, query),
                body=body,
                headers=self._with_credentials(headers),
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
            )
        return _successful(response.status, response.data)

    def stream(self, path: str, *, query: Mapping[str, str], read_timeout: float) -> LineStream:
        """Return an answer that goes on; `read_timeout` is the longest silence believed to be a living server."""
        with _unreachable(self.server):
            response = self._pool.urlopen(
                "GET",
                self._target(path, query),
                headers=self._with_credentials({}),
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=read_timeout),
            )
            if response.status != 200:
                _successful(response.status, response.data)
        return LineStream(response, self.server)

    def _target(self, path: str, query: Mapping[str, str] | None) -> str:
        return f"{self._prefix}{path}?{urlencode(query)}" if query else f"{self._prefix}{path}"

    def _with_credentials(self, headers: Mapping[str, str]) -> dict[str, str]:
        token = self._token_file.read() if self._token_file else self._static_token
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        return {**self._headers, **headers, **authorization}


def _successful(status: int, body: bytes) -> bytes:
    if 200 <= status < 300:
        return body
    raise from_status(status, body)


@contextlib.contextmanager
def _unreachable(server: str) -> Iterator[None]:
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unreachable(server, _reason(error), connected=not isinstance(error, _NOT_CONNECTED)) from error


def _reason(error: BaseException) -> str:
    """Say what happened, without the layers around it and their object addresses: `[Errno 111] Connection refused`."""
    root = _root(error)
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {root.verify_message}"
    if isinstance(root, urllib3.exceptions.HTTPError):
        # Connection and pool print themselves in front of the message.
        return str(root).rpartition("object at 0x")[2].rpartition(">: ")[2] or type(root).__name__
    return str(root) or type(root).__name__


def _root(error: BaseException) -> BaseException:
    """Follow the exceptions that urllib3 puts around one another, as cause or as argument."""
    while inner := error.__cause__ or next((arg for arg in error.args if isinstance(arg, BaseException)), None):
        error = inner
    return error


def _pool(connection: Connection, host: str, port: int | None) -> urllib3.HTTPConnectionPool:
    if connection.server.startswith("https:"):
        return urllib3.HTTPSConnectionPool(
            host,
            port,
            maxsize=_POOL,
            ssl_context=_ssl_context(connection),
            server_hostname=connection.server_name,
            socket_options=_SOCKET_OPTIONS,
        )
    return urllib3.HTTPConnectionPool(host, port, maxsize=_POOL, socket_options=_SOCKET_OPTIONS)


def _ssl_context(connection: Connection) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        if connection.ca is not None:
            context = ssl.create_default_context(cadata=connection.ca.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        problem = f"is not PEM: {type(error).__name__}"
        raise ConnectionConfigError(connection.origin, "certificate-authority", problem) from None
    if connection.insecure:
        # Said once here instead of by urllib3 at every connection.
        log.warning("the server's certificate is not verified", server=connection.server)
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if connection.client_certificate is not None and connection.client_key is not None:
        try:
            _load_identity(context, connection.client_certificate, connection.client_key)
        except ssl.SSLError as error:
            problem = f"certificate and key cannot be used together: {error.reason or type(error).__name__}"
            raise ConnectionConfigError(connection.origin, "client-certificate, client-key", problem) from None
    return context


def _load_identity(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Give OpenSSL the certificate and key; it reads files only, so they go through one that is never on a disk."""
    descriptor = os.memfd_create("podwire-client-certificate", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(certificate.rstrip() + b"\n" + key)
        # The empty password: an encrypted key fails instead of asking at the terminal.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
