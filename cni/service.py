"""The agent's half of a shim's call: the same commands, in a process that is warm.

The shim runs the plugin alone whenever no proper reply comes, so nothing here has to be rescued: a connection that
ends early is enough.
"""

import contextlib
import socket
from collections.abc import Callable
from dataclasses import replace

import msgspec
import structlog

from cni import dispatch, spec, wire
from cni.host import Host, OpenNetns
from dataplane import netns
from dataplane.errors import NotFound

log = structlog.get_logger(__name__)


def answer(connection: socket.socket, host: Host) -> None:
    """Serve one connection; the caller closes it. Raises OSError when the shim went away or was too slow."""
    try:
        request = wire.receive(connection)
    except (wire.WireError, UnicodeError) as error:
        log.warning("request not understood", reason=str(error))
        return
    try:
        _answer(connection, request, host)
    finally:
        request.close()


def _answer(connection: socket.socket, request: wire.Request, host: Host) -> None:
    if request.caller != host.own_netns:
        wire.send(connection, exit_code=wire.RUN_ALONE, stdout=b"")
        return
    reply = _reply(request, host)
    _log(request, reply)
    wire.send(connection, exit_code=reply.exit_code, stdout=reply.stdout)


def _reply(request: wire.Request, host: Host) -> dispatch.Reply:
    if request.environ.get(spec.PLUGIN_VARIABLE) == spec.IPAM_TYPE:
        return dispatch.run_ipam(request.environ, request.stdin, lambda: host)
    return dispatch.run(request.environ, request.stdin, lambda: _with_pod(host, request))


def _with_pod(host: Host, request: wire.Request) -> Host:
    """The host, seeing the pod's namespace through the shim's descriptor and never through the path."""
    return replace(host, open_netns=_opener(request.netns_fd))


def _opener(netns_fd: int | None) -> Callable[[str], contextlib.AbstractContextManager[OpenNetns]]:
    def open_netns(path: str) -> netns.Netns:
        if netns_fd is None:
            raise NotFound(f"open network namespace {path}", detail="the plugin could not open it")
        return netns.open_netns(f"/proc/self/fd/{netns_fd}")

    return open_netns


def _log(request: wire.Request, reply: dispatch.Reply) -> None:
    environ = request.environ
    event = log.bind(command=environ.get("CNI_COMMAND"), container=environ.get("CNI_CONTAINERID"))
    if reply.exit_code:
        error = msgspec.json.decode(reply.stdout)
        event.warning("cni call refused", code=error["code"], reason=error["msg"], details=error.get("details", ""))
    else:
        event.info("cni call served", arguments=environ.get("CNI_ARGS", ""))
