"""Readiness: asking a container over the network, from the node, whether it will serve.

Until a container was ready once it is asked more often than its period says, so that a lab comes up in the time its
programs need and not in multiples of ten seconds.
"""

import contextlib
import http.client
import socket
import ssl
from dataclasses import dataclass, replace
from typing import Final

from kube.backoff import Backoff
from kube.objects import Container, HttpGet, Probe, TcpSocket

_EAGER: Final = Backoff(first=0.05, longest=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What the probes of one running container said so far. `next_at` is on the clock of whoever asks."""

    next_at: float
    ready: bool = False
    was_ready: bool = False
    successes: int = 0
    failures: int = 0
    message: str = ""


def first(probe: Probe | None, now: float) -> Readiness:
    """Return the readiness of a container that just started; without a probe it is ready at once."""
    if probe is None:
        return Readiness(next_at=float("inf"), ready=True, was_ready=True)
    return Readiness(next_at=now + probe.initial_delay_seconds)


def after(readiness: Readiness, probe: Probe, *, failure: str, now: float) -> Readiness:
    """Account for one answer; `failure` is empty when the probe succeeded."""
    successes = 0 if failure else readiness.successes + 1
    failures = readiness.failures + 1 if failure else 0
    ready = readiness.ready
    if successes >= probe.success_threshold:
        ready = True
    elif failures >= probe.failure_threshold:
        ready = False
    was_ready = readiness.was_ready or ready
    wait = float(probe.period_seconds) if was_ready else min(_EAGER.delay(failures), probe.period_seconds)
    return replace(
        readiness,
        next_at=now + wait,
        ready=ready,
        was_ready=was_ready,
        successes=successes,
        failures=failures,
        message=failure,
    )


def ask(probe: Probe, container: Container, address: str) -> str:
    """Run one network probe against the pod's address; return why it failed, or nothing."""
    try:
        if probe.http_get is not None:
            return _ask_http(probe.http_get, container, address, probe.timeout_seconds)
        if probe.tcp_socket is not None:
            return _ask_tcp(probe.tcp_socket, container, address, probe.timeout_seconds)
    except (OSError, http.client.HTTPException) as error:
        return f"Readiness probe failed: {error}"
    return "Readiness probe has no httpGet, tcpSocket or exec"


def _ask_http(action: HttpGet, container: Container, address: str, timeout: int) -> str:
    host, port = action.host or address, _port(action.port, container)
    connection = (
        http.client.HTTPSConnection(host, port, timeout=timeout, context=_unverified())
        if action.scheme == "HTTPS"
        else http.client.HTTPConnection(host, port, timeout=timeout)
    )
    with contextlib.closing(connection):
        connection.request("GET", action.path, headers={"User-Agent": "podwire-lab", "Connection": "close"})
        status = connection.getresponse().status
    # A kubelet's rule: 200 up to 399 is success.
    return "" if 200 <= status < 400 else f"Readiness probe failed: HTTP probe failed with statuscode: {status}"


def _unverified() -> ssl.SSLContext:
    """A kubelet does not verify either: the probe asks whether the pod answers, not who it is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _ask_tcp(action: TcpSocket, container: Container, address: str, timeout: int) -> str:
    socket.create_connection((action.host or address, _port(action.port, container)), timeout=timeout).close()
    return ""


def _port(port: int | str, container: Container) -> int:
    if isinstance(port, int):
        return port
    for declared in container.ports:
        if declared.name == port:
            return declared.container_port
    raise OSError(f"the container has no port named {port!r}")
