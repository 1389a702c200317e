"""Whether the proxy does its work, for whoever restarts it or sends traffic here: /healthz and /livez over HTTP.

Healthy means: the API's objects have been seen, and no round of writing has been failing as a whole for longer than a
minute. A single Service that cannot be written is not the proxy's illness.
"""

import http.server
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import msgspec

FAILING_SECONDS_MAX: Final = 60.0  # twice kube-proxy's sync period
_PATHS: Final = frozenset({"/healthz", "/livez"})


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """What a probe gets to read; the field names are kube-proxy's."""

    last_updated: datetime | None
    current_time: datetime
    healthy: bool


class Health:
    """What the last rounds came to. Any thread may ask."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_updated: datetime | None = None
        self._failing_since: datetime | None = None

    def succeeded(self) -> None:
        with self._lock:
            self._last_updated, self._failing_since = self._clock(), None

    def failed(self) -> None:
        with self._lock:
            self._failing_since = self._failing_since or self._clock()

    def report(self) -> Report:
        with self._lock:
            now = self._clock()
            failing = (now - self._failing_since).total_seconds() if self._failing_since else 0.0
            is_healthy = self._last_updated is not None and failing <= FAILING_SECONDS_MAX
            return Report(self._last_updated, now, is_healthy)


class HealthServer:
    """Serves the report on an address until `stop`. Raises OSError when the address cannot be had."""

    def __init__(self, address: tuple[str, int], health: Health) -> None:
        self._server = http.server.ThreadingHTTPServer(address, _handler(health))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(health: Health) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 5  # a prober that says nothing holds a thread no longer

        def do_GET(self) -> None:
            if self.path not in _PATHS:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            report = health.report()
            body = msgspec.json.encode(report)
            self.send_response(HTTPStatus.OK if report.healthy else HTTPStatus.SERVICE_UNAVAILABLE)
            self.send_header("Content-Type", "application/json")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Probes come every few seconds."""

    return Handler
