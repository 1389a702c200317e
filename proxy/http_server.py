"""HTTP for those who ask how the proxy is: probes, load balancers, Prometheus.

A thread for each connection, so that one who says nothing holds up nobody, and an answer for every GET: what a path
means is a function from path to answer. Nothing is looked up: the standard library's own server asks the DNS for the
name of the address it binds.
"""

import contextlib
import http.server
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType
from typing import Final, NamedTuple

import structlog

log = structlog.get_logger(__name__)

Address = IPv4Address | IPv6Address

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Answer(NamedTuple):
    status: HTTPStatus
    body: bytes
    content_type: str = TEXT
    headers: Mapping[str, str] = NO_HEADERS


NOT_FOUND: Final = Answer(HTTPStatus.NOT_FOUND, b"404 page not found\n")

RETRY_SECONDS: Final = 5.0  # kube-proxy's
_STOP_SECONDS: Final = 2.0

Respond = Callable[[str], Answer]
Admits = Callable[[Address], bool]


class HttpServer:
    """Answers on one address until `stop`. Raises OSError when the address cannot be had.

    As Go's listeners do, the unspecified address of IPv6 takes IPv4 too, unless it is for `one_family` only. `admits`
    is asked of the address a connection came to; who comes to another is left without an answer.
    """

    def __init__(
        self, address: tuple[str, int], respond: Respond, *, one_family: bool = False, admits: Admits | None = None
    ) -> None:
        self._server = _listen(address, respond, one_family=one_family)
        self._server.admits = admits
        self._thread = threading.Thread(target=self._server.serve_forever, name=f"http-{self.port}", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class PersistentServer:
    """Serves from `start` to `stop`, as soon as the address can be had: whoever holds it now may go.

    `tell` hears of each time it cannot be had.
    """

    def __init__(self, name: str, address: tuple[str, int], respond: Respond, *, tell: Callable[[str], None]) -> None:
        self._name = name
        self._address = address
        self._respond = respond
        self._tell = tell
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __str__(self) -> str:
        return f"{self._name} on {self._address[0]}:{self._address[1]}"

    def start(self, *, must_bind: bool = False) -> None:
        """Begin. Raises OSError when the address must be had at once and cannot."""
        server = self._attempt(must_bind=must_bind)
        self._thread = threading.Thread(target=self._run, args=(server,), name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread:
            self._thread.join(_STOP_SECONDS)

    def _run(self, server: HttpServer | None) -> None:
        while server is None and not self._stopping.wait(RETRY_SECONDS):
            server = self._attempt(must_bind=False)
        if server is not None:
            server.start()
            self._stopping.wait()
            server.stop()

    def _attempt(self, *, must_bind: bool) -> HttpServer | None:
        try:
            return HttpServer(self._address, self._respond)
        except OSError as error:
            if must_bind:
                raise
            # Services matter more than being asked about them.
            log.warning("not served; trying again", server=str(self), error=str(error))
            self._tell(f"{self} is not served: {error.strerror or error}")
            return None


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], respond: Respond, *, one_family: bool) -> None:
        self.respond = respond
        self.is_one_family = one_family
        self.admits: Admits | None = None
        super().__init__(address, _Handler)

    def verify_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> bool:
        del client_address
        if self.admits is None or not isinstance(request, socket.socket):
            return True
        return self.admits(ip_address(request.getsockname()[0]))


class _Server6(_Server):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        only_this = self.is_one_family or self.server_address[0] != "::"
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_this)
        super().server_bind()


def _listen(address: tuple[str, int], respond: Respond, *, one_family: bool) -> _Server:
    return (_Server6 if ":" in address[0] else _Server)(address, respond, one_family=one_family)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = 5  # who says nothing holds a thread no longer

    def do_GET(self) -> None:
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        self._send(with_body=False)

    def handle(self) -> None:
        # The asker may go away at any moment.
        with contextlib.suppress(OSError):
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def _send(self, *, with_body: bool) -> None:
        answer = _answer(self.server.respond, self.path.partition("?")[0])
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def log_message(self, *_arguments: object) -> None:
        """Probes come every few seconds."""


def _answer(respond: Respond, path: str) -> Answer:
    try:
        return respond(path)
    except Exception as error:
        log.exception("a page could not be made", path=path)
        return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"{error}\n".encode())
