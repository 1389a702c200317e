"""Asking a container over the network, from the node, whether it will serve."""

import contextlib
import http.client
import socket
import ssl

from kube.objects import Container, HttpGet, Probe, TcpSocket


def ask(probe: Probe, container: Container, address: str) -> str:
    """Run one network probe against the pod's address; return why it failed, or nothing."""
    try:
        if probe.http_get is not None:
            return _ask_http(probe.http_get, container, address, probe.timeout_seconds)
        if probe.tcp_socket is not None:
            return _ask_tcp(probe.tcp_socket, container, address, probe.timeout_seconds)
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: a path that is not ASCII
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
        connection.request("GET", action.path, headers={"User-Agent": "podwire-pods", "Connection": "close"})
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
