"""The HTTP servers behind Services' healthCheckNodePorts: one port for each, opened and closed as Services come and go.

They answer where node ports are served, at whatever address that is by then. They keep to themselves: a loop of their own, so that a port somebody else holds is tried again and delays no Service.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

import structlog

from kube.control import ControlLoop, SyncFailed
from proxy import health_check
from proxy.health import Health
from proxy.health_check import HealthCheck
from proxy.here import Here
from proxy.http_server import JSON, Answer, HttpServer
from proxy.model import Address, Family, ServiceName
from proxy.planning import Source

log = structlog.get_logger(__name__)

REASON: Final = "FailedToStartServiceHealthcheck"  # kube-proxy's, in its spelling
_ADDRESSES: Final[Mapping[Family, str]] = {"IPv4": "0.0.0.0", "IPv6": "::"}


class PortTaken(Exception):
    """The port cannot be listened on; it is tried again."""

    def __init__(self, node: str, name: ServiceName, port: int, error: OSError) -> None:
        super().__init__(node, name, port, error)
        self.node = node
        self.name = name
        self.port = port
        self.error = error

    def __str__(self) -> str:
        why = self.error.strerror or str(self.error)
        return f"node {self.node} cannot answer for {self.name} on spec.healthCheckNodePort {self.port}: {why}"


class HealthCheckPorts:
    """Answers from `run` to `stop`; `mark` says which Service to look at. `tell` hears of ports that cannot be had."""

    def __init__(
        self,
        source: Source,
        health: Health,
        *,
        look: Callable[[], Here],
        family: Family,
        tell: Callable[[ServiceName, str, str], None],
    ) -> None:
        self._source = source
        self._health = health
        self._look = look
        self._family = family
        self._tell = tell
        self._loop: ControlLoop[ServiceName] = ControlLoop("health-check-ports")
        self._checks: dict[ServiceName, HealthCheck] = {}
        self._servers: dict[ServiceName, HttpServer] = {}

    def mark(self, name: ServiceName) -> None:
        """Look at this Service, if it has such a port or had one: few have, and all are marked when they are listed."""
        service = self._source.service(name)
        if name in self._checks or (service and service.spec.health_check_node_port):
            self._loop.mark(name)

    def run(self) -> None:
        """Follow Services until `stop`, then close all ports."""
        self._loop.run(self.sync)
        for name in tuple(self._servers):
            self._close(name)

    def stop(self) -> None:
        self._loop.stop()

    def sync(self, names: frozenset[ServiceName]) -> None:
        """Look at these Services. Raises SyncFailed for those whose port cannot be had."""
        for name in names:
            self._update(name)
        # A port that changes hands is closed by now.
        failures = {name: error for name in names if (error := self._open(name))}
        for name, error in failures.items():
            self._tell(name, REASON, str(error))
        if failures:
            raise SyncFailed(failures)

    def _update(self, name: ServiceName) -> None:
        check = health_check.health_check(
            self._source.service(name), self._source.slices(name), node=self._look().node, family=self._family
        )
        server = self._servers.get(name)
        if server and (check is None or check.port != server.port):
            self._close(name)
        if check is None:
            self._checks.pop(name, None)
        else:
            self._checks[name] = check

    def _open(self, name: ServiceName) -> PortTaken | None:
        check = self._checks.get(name)
        if check is None or name in self._servers:
            return None
        try:
            address = _ADDRESSES[self._family], check.port
            server = HttpServer(address, lambda _path: self._answer(name), one_family=True, admits=self._admits)
        except OSError as error:
            return PortTaken(self._look().node, name, check.port, error)
        server.start()
        self._servers[name] = server
        log.info("answering health checks", service=str(name), port=check.port)
        return None

    def _close(self, name: ServiceName) -> None:
        server = self._servers.pop(name)
        server.stop()
        log.info("no longer answering health checks", service=str(name), port=server.port)

    def _admits(self, address: Address) -> bool:
        return any(address in network for network in self._look().nodeport_addresses)

    def _answer(self, name: ServiceName) -> Answer:
        check, is_healthy = self._checks.get(name), self._health.is_healthy
        count = check.local_endpoints if check else 0
        status = HTTPStatus.OK if count and is_healthy else HTTPStatus.SERVICE_UNAVAILABLE
        body = health_check.body(name, count, is_proxy_healthy=is_healthy)
        return Answer(status, body, JSON, {"X-Load-Balancing-Endpoint-Weight": str(count)})
