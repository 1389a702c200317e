"""One call of the plugin, from its environment and stdin to its stdout and exit code.

The same function runs in the stand-alone process and in the agent, so there is one plugin, not two. Whatever goes
wrong becomes the specification's error object here and nowhere else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cni import conf, environment, result, spec
from cni.commands.add import add
from cni.commands.check import check
from cni.commands.collect import Network, collect
from cni.commands.delete import delete
from cni.commands.status import status
from cni.delegation import delegate_of
from cni.host import Host
from cni.hostports import PortTaken
from cni.ipam_plugin import commands as ipam_plugin
from cni.ipam_plugin.commands import Place
from cni.rebuilding import Uncertain
from cni.spec import CniError, Code, Command
from dataplane.errors import DataplaneError
from ipam.leases import AlreadyLeased, LeaseLost, LeasesBusy, LeasesInaccessible, LeasesUnreadable
from ipam.pool import AddressInUse, PoolError, PoolExhausted


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the runtime gets."""

    stdout: bytes
    exit_code: int


_CODES: Mapping[type[Exception], Code] = {
    PoolExhausted: Code.POOL_EXHAUSTED,
    AddressInUse: Code.ADDRESS_IN_USE,
    PortTaken: Code.PORT_TAKEN,
    PoolError: Code.INVALID_CONFIG,
    AlreadyLeased: Code.ALREADY_ATTACHED,
    LeaseLost: Code.TRY_AGAIN_LATER,
    LeasesBusy: Code.TRY_AGAIN_LATER,
    LeasesUnreadable: Code.LEASES_UNREADABLE,
    Uncertain: Code.LEASES_UNREADABLE,
    LeasesInaccessible: Code.IO_FAILURE,
    DataplaneError: Code.KERNEL_REFUSED,
    OSError: Code.IO_FAILURE,
}


def run(environ: Mapping[str, str], stdin: bytes, open_host: Callable[[], Host]) -> Reply:
    """Serve one call. `open_host` is asked only when the call itself is sound. Raises nothing."""
    return _answered(environ, stdin, lambda asked, wire: _serve(asked, wire, open_host))


def run_ipam(environ: Mapping[str, str], stdin: bytes, open_place: Callable[[], Place]) -> Reply:
    """The same for a call of the stand-alone IPAM plugin."""
    return _answered(environ, stdin, lambda asked, wire: _reply(ipam_plugin.serve(asked, wire, open_place)))


def _answered(
    environ: Mapping[str, str], stdin: bytes, serve: Callable[[environment.Environment, Mapping[str, Any]], Reply]
) -> Reply:
    try:
        asked = environment.parse_environment(environ)
        if asked.command is Command.VERSION:
            return _success(spec.version_report())
        return serve(asked, conf.decode(stdin))
    except Exception as error:  # noqa: BLE001 - the process edge: a runtime must always get an error object
        return refusal(stdin, error)


def _serve(asked: environment.Environment, wire: Mapping[str, Any], open_host: Callable[[], Host]) -> Reply:
    essentials = conf.parse_essentials(wire)
    spec.require_version(essentials.version, asked.command)
    delegate = delegate_of(asked, wire)
    if asked.command is Command.DEL:
        delete(asked, essentials, open_host(), delegate)
        return Reply(stdout=b"", exit_code=0)
    if asked.command is Command.GC:
        valid = conf.parse_valid_attachments(wire, essentials.name)
        collect(valid, Network(essentials=essentials, bridge=conf.parse_bridge(wire), delegate=delegate), open_host())
        return Reply(stdout=b"", exit_code=0)
    return _serve_configured(asked, wire, open_host)


def _serve_configured(asked: environment.Environment, wire: Mapping[str, Any], open_host: Callable[[], Host]) -> Reply:
    network, delegate = conf.parse_conf(wire, asked.arguments), delegate_of(asked, wire)
    if asked.command is Command.STATUS:
        status(network, open_host(), delegate)
        return Reply(stdout=b"", exit_code=0)
    if asked.command is Command.CHECK:
        check(asked, network, open_host(), delegate)
        return Reply(stdout=b"", exit_code=0)
    made = add(asked, network, open_host(), delegate)
    return _success(result.to_dict(made, network.essentials.version, network.previous_json))


def refusal(stdin: bytes, error: Exception) -> Reply:
    """The error object for a failure, in the configuration's own version when that can be told."""
    told = _translated(error)
    if told.code is Code.INTERNAL:
        import traceback  # reads and tokenizes sources: 8 ms that only a fault is worth

        traceback.print_exception(error)  # to stderr: a fault of the plugin's own, for whoever reports it
    return Reply(stdout=_encoded(told.to_dict(_answer_version(stdin))), exit_code=1)


def _translated(error: Exception) -> CniError:
    notes = "; ".join(getattr(error, "__notes__", ()))
    if isinstance(error, CniError):
        return CniError(error.code, error.msg, "; ".join(filter(None, (error.details, notes))))
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return CniError(code, str(error), notes)
    return CniError(Code.INTERNAL, f"{type(error).__name__}: {error}", notes)


def _answer_version(stdin: bytes) -> str:
    try:
        version = conf.stated_version(conf.decode(stdin))
    except CniError:
        return spec.LATEST
    return version if version in spec.SUPPORTED else spec.LATEST


def _reply(answer: Mapping[str, Any] | None) -> Reply:
    return Reply(stdout=b"", exit_code=0) if answer is None else _success(answer)


def _success(answer: Mapping[str, Any]) -> Reply:
    return Reply(stdout=_encoded(answer), exit_code=0)


def _encoded(answer: Mapping[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(answer), indent=4) + b"\n"
