"""The network configuration a runtime gives on stdin, parsed and checked.

Every refusal names the key, its value and what to write instead. What a DEL needs of the configuration is read apart
and forgivingly: a network whose configuration was broken after a pod was added must still let the pod go.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

from cni import environment, wire_types
from cni.addressing import Addressing, parse_addressing
from cni.gate import Check
from cni.requests import Requests, parse_requests
from cni.spec import IPAM_TYPE, UNSTATED, CniError, Code, invalid
from ipam.lease import Attachment
from ipam.pool import Pool

MTU_LOWEST, MTU_HIGHEST = 68, 65535  # RFC 791; the largest a veth takes
DEFAULT_DIRECTORY = "/var/lib/podwire/cni"

# Options of the reference bridge plugin that change who can reach whom. Ignoring one would be a quiet lie.
_UNSUPPORTED = (
    "vlan",
    "vlanTrunk",
    "promiscMode",
    "portIsolation",
    "disableContainerInterface",
    "enabledad",
)
_VALID_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")  # the second is an older libcni's slip


_NO_ARGUMENTS: Mapping[str, str] = {}
_STRUCTS = frozenset({"portMappings", "bandwidth", "dns", "ipRanges"})  # in runtimeConfig: what runtimes have types for
_DNS_KEYS = {"servers": "nameservers", "searches": "search", "options": "options"}  # runtimeConfig.dns: result.dns


@dataclass(frozen=True, slots=True, kw_only=True)
class Essentials:
    """What every command needs."""

    version: str
    name: str
    directory: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConf:
    essentials: Essentials
    bridge: str
    mtu: int
    is_gateway: bool
    is_default_gateway: bool
    masquerade: bool
    hairpin: bool
    check: Check
    addressing: Addressing  # empty when another plugin gives the addresses
    dns: Mapping[str, Any]
    requests: Requests
    previous: wire_types.PreviousResult | None
    previous_json: Mapping[str, Any]  # the same with every key, to be passed on

    @property
    def name(self) -> str:
        return self.essentials.name

    @property
    def pools(self) -> tuple[Pool, ...]:
        return self.addressing.pools


def decode(stdin: bytes) -> Mapping[str, Any]:
    """The configuration as an object. Raises CniError 6 for what is not one."""
    try:
        conf = msgspec.json.decode(stdin)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CniError(Code.DECODING_FAILURE, "the configuration on stdin is not JSON", str(error)) from error
    if not isinstance(conf, dict):
        raise CniError(Code.DECODING_FAILURE, "the configuration on stdin is not a JSON object", repr(conf)[:80])
    runtime = conf.get("runtimeConfig")
    return {**conf, "runtimeConfig": _respelt(runtime)} if isinstance(runtime, dict) else conf


def _respelt(runtime: Mapping[str, Any]) -> Mapping[str, Any]:
    """The runtime's wishes with the keys the conventions name.

    containerd writes its Go structs as they are, HostPort for hostPort; plugins in Go read both without knowing.
    """
    return {key: _lowered(value) if key in _STRUCTS else value for key, value in runtime.items()}


def _lowered(value: Any) -> Any:
    if isinstance(value, list):
        return [_lowered(one) for one in value]
    if isinstance(value, dict):
        return {key[:1].lower() + key[1:]: _lowered(one) for key, one in value.items()}
    return value


def stated_version(conf: Mapping[str, Any]) -> str:
    version = conf.get("cniVersion") or UNSTATED
    if not isinstance(version, str):
        raise CniError(Code.DECODING_FAILURE, f"cniVersion={version!r}", "must be a string such as 1.0.0")
    return version


def parse_essentials(conf: Mapping[str, Any]) -> Essentials:
    name = conf.get("name")
    if not name:
        raise CniError(Code.INVALID_CONFIG, "missing network name", 'set "name" in the network configuration')
    if not isinstance(name, str) or not environment.is_identifier(name):
        raise invalid("name", name, "letters, digits, and after the first also _ . -")
    directory = conf.get("dataDir") or DEFAULT_DIRECTORY
    if not isinstance(directory, str) or not directory.startswith("/"):
        raise invalid("dataDir", directory, "must be an absolute path")
    return Essentials(version=stated_version(conf), name=name, directory=Path(directory))


def parse_valid_attachments(conf: Mapping[str, Any], network: str) -> frozenset[Attachment] | None:
    """What a GC shall keep; None when the configuration does not say. Raises CniError 7, since a guess would delete."""
    key = next((key for key in _VALID_ATTACHMENTS if conf.get(key) is not None), None)
    if key is None:
        return None
    try:
        wire = msgspec.convert(conf[key], list[wire_types.ValidAttachment])
    except msgspec.ValidationError as error:
        raise invalid(key, conf[key], f"must be a list of {{containerID, ifname}}: {error}") from error
    return frozenset(Attachment(network=network, container_id=one.container_id, ifname=one.ifname) for one in wire)


def parse_bridge(conf: Mapping[str, Any]) -> str:
    """The bridge alone, for commands that must work although the rest of the configuration was broken since."""
    bridge = conf.get("bridge")
    return bridge if isinstance(bridge, str) else wire_types.DEFAULT_BRIDGE


def parse_conf(conf: Mapping[str, Any], arguments: Mapping[str, str] = _NO_ARGUMENTS) -> NetConf:
    """Check everything ADD and CHECK depend on. Raises CniError 2 or 7."""
    essentials = parse_essentials(conf)
    _refuse_unsupported(conf)
    wire = shaped(_without_foreign_ipam(conf))
    if problem := environment.ifname_problem(wire.bridge):
        raise invalid("bridge", wire.bridge, problem)
    if not MTU_LOWEST <= wire.mtu <= MTU_HIGHEST:
        raise invalid("mtu", wire.mtu, f"must be {MTU_LOWEST} to {MTU_HIGHEST}")
    is_gateway = wire.is_gateway or wire.is_default_gateway
    return NetConf(
        essentials=essentials,
        bridge=wire.bridge,
        mtu=wire.mtu,
        is_gateway=is_gateway,
        is_default_gateway=wire.is_default_gateway,
        masquerade=wire.ip_masq,
        hairpin=wire.hairpin_mode,
        check=_check(wire),
        addressing=_addressing(wire, essentials.version),
        dns=_dns(wire),
        requests=parse_requests(wire, arguments, essentials.name),
        previous=wire.prev_result,
        previous_json=conf.get("prevResult") or {},
    )


def _check(wire: wire_types.NetConf) -> Check:
    if wire.source_check:
        return Check.SOURCE
    return Check.MAC if wire.macspoofchk else Check.NONE


def _dns(wire: wire_types.NetConf) -> Mapping[str, Any]:
    """The configuration's name servers; those the runtime gives take their place, and are spelt otherwise there."""
    runtime = (wire.runtime_config.dns if wire.runtime_config else None) or {}
    given = {theirs: runtime.get(ours) for ours, theirs in _DNS_KEYS.items()}
    return {key: value for key, value in {**wire.dns, **_filled(given)}.items() if value}


def _filled(given: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in given.items() if value}


def _refuse_unsupported(conf: Mapping[str, Any]) -> None:
    for key, value in ((key, conf[key]) for key in _UNSUPPORTED if conf.get(key)):
        raise CniError(
            Code.UNSUPPORTED_FIELD, f"unsupported field: {key}={value!r}", "remove it from the configuration"
        )


def _without_foreign_ipam(conf: Mapping[str, Any]) -> Mapping[str, Any]:
    """What another IPAM plugin reads is its own business: of it only the name is looked at."""
    ipam = conf.get("ipam")
    if isinstance(ipam, dict) and ipam.get("type") not in {IPAM_TYPE, None}:
        return {**conf, "ipam": {"type": ipam["type"]}}
    return conf


def shaped(conf: Mapping[str, Any]) -> wire_types.NetConf:
    """The configuration with the types its keys must have. Raises CniError 7."""
    try:
        return msgspec.convert(conf, wire_types.NetConf)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `")
        field = path.rstrip("`").removeprefix("$.")
        raise invalid(field or "configuration", _value_at(conf, field), problem[:1].lower() + problem[1:]) from error


def _value_at(conf: Any, field: str) -> object:
    """The value msgspec's path leads to; None when the path ends early, as it does for a missing key."""
    for step in re.findall(r"[^.\[\]]+", field):
        try:
            conf = conf[int(step) if isinstance(conf, list) else step]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return cast("object", conf)


def _addressing(wire: wire_types.NetConf, version: str) -> Addressing:
    if not wire.ipam.type or "/" in wire.ipam.type:
        raise invalid("ipam.type", wire.ipam.type, f'write "{IPAM_TYPE}", or the name of another IPAM plugin')
    if wire.ipam.type != IPAM_TYPE:
        return Addressing(ranges=(), routes=(), cooldown=0)
    # The runtime's ranges are lists of their own beside the configuration's, as for the reference plugins.
    given = (wire.runtime_config.ip_ranges if wire.runtime_config else None) or []
    return parse_addressing(wire.ipam, given, version=version, is_default_gateway=wire.is_default_gateway)
