"""Addresses from another IPAM plugin: the same configuration and environment are passed on to it (spec §5).

podwire's own lease file records what the other plugin gave: the record fences the pod's namespace and finds what was
left behind, whoever gives the addresses. The other plugin is told to let go whenever podwire would.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import msgspec

from cni import execution, wire_types
from cni.addressing import Addressing, PodRoute, with_default_routes
from cni.conf import NetConf
from cni.environment import Environment
from cni.execution import PluginFailed
from cni.spec import IPAM_TYPE, CniError, Code, Command
from ipam.address import Interface
from ipam.lease import Attachment
from ipam.pool import Pool, PoolTooSmall

# The environment the process was started with belongs to the agent; of it an IPAM plugin gets only what finds programs.
_INHERITED = ("PATH", "LANG", "HOME")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    """One call's way to the plugin that gives the addresses."""

    plugin: str
    document: Mapping[str, Any]  # the whole configuration: an IPAM plugin reads name, ipam, args, runtimeConfig from it
    variables: Mapping[str, str]

    def run(self, command: Command, attachment: Attachment | None = None) -> dict[str, Any]:
        """Raises CniError with the other plugin's own code and words."""
        environ = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environ |= {**self.variables, "CNI_COMMAND": command}
        if attachment:
            environ |= {"CNI_CONTAINERID": attachment.container_id, "CNI_IFNAME": attachment.ifname}
        directories = [Path(part) for part in self.variables.get("CNI_PATH", "").split(":") if part]
        try:
            return execution.run(
                self.plugin, command, environ=environ, stdin=msgspec.json.encode(self.document), bin_dirs=directories
            )
        except PluginFailed as error:
            raise CniError(error.code, f"IPAM plugin {error.plugin} {command}: {error.msg}", error.details) from error


def delegate_of(environment: Environment, document: Mapping[str, Any]) -> Delegate | None:
    """The other plugin; None when addresses are podwire's own. Asks no more of the configuration than it must."""
    ipam = document.get("ipam")
    plugin = ipam.get("type") if isinstance(ipam, dict) else None
    if not isinstance(plugin, str) or not plugin or plugin == IPAM_TYPE:
        return None
    return Delegate(plugin=plugin, document=document, variables=environment.variables)


def given(conf: NetConf, answer: Mapping[str, Any], plugin: str) -> NetConf:
    """The configuration with what the other plugin answered to an ADD in the place of ranges and routes."""
    try:
        result = msgspec.convert(answer, wire_types.PreviousResult)
    except msgspec.ValidationError as error:
        raise _unusable(plugin, str(error)) from error
    addresses = [entry for entry in result.ips or () if entry.address]
    if not addresses:
        raise _unusable(plugin, "it gave no address")
    try:
        ranges = tuple((_pool(conf, ip_interface(entry.address), entry.gateway),) for entry in addresses)
        stated = [PodRoute.parse(route) for route in result.routes or ()]
    except (ValueError, PoolTooSmall) as error:
        raise _unusable(plugin, str(error)) from error
    families: set[int] = {pool.network.version for (pool,) in ranges} if conf.is_default_gateway else set()
    # When an address may be given again is the other plugin's to say.
    addressing = Addressing(ranges=ranges, routes=with_default_routes(stated, families), cooldown=0)
    dns = {key: value for key, value in (result.dns or {}).items() if value}
    return replace(conf, addressing=addressing, dns={**dns, **conf.dns})


def _pool(conf: NetConf, interface: Interface, gateway: str | None) -> Pool:
    """The one address. Without a gateway of its own the bridge gets the subnet's first, as the reference bridge has it."""
    chosen = ip_address(gateway) if gateway else interface.network[1] if conf.is_gateway else None
    return Pool.of(interface.network, first=interface.ip, last=interface.ip, gateway=chosen)


def _unusable(plugin: str, problem: str) -> CniError:
    return CniError(Code.INVALID_CONFIG, f"the result of IPAM plugin {plugin} cannot be used", problem)
