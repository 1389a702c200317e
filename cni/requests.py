"""What a runtime asks for one attachment only: addresses, a MAC, names.

There are three ways to ask, each newer than the one after it: runtimeConfig (capabilities), args.cni in the configuration,
and CNI_ARGS. For the MAC the newest one counts; wanted addresses add up, as they do for the reference plugins.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

from cni import wire_types
from cni.gate import UNLIMITED, Bandwidth, parse_bandwidth
from cni.hostports import PortMapping, parse_mappings
from cni.spec import CniError, Code, invalid

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")

Said = Sequence[tuple[str, Any]]
"""The same request in its three places, the newest way first: where it stands and what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """`mac` is empty when the plugin may choose; `aliases` are names for people and name servers, not interfaces."""

    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    mac: str = ""
    aliases: tuple[str, ...] = ()
    ports: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth = UNLIMITED


def parse_requests(wire: wire_types.NetConf, arguments: Mapping[str, str], network: str) -> Requests:
    """Read all three ways. Raises CniError 4 for CNI_ARGS, 7 for the configuration."""
    runtime = wire.runtime_config or wire_types.Runtime()
    labels = (wire.args.cni if wire.args else None) or wire_types.Labels()
    ips = (
        ("runtimeConfig.ips", runtime.ips),
        ("args.cni.ips", labels.ips),
        ("CNI_ARGS IP", [part for part in arguments.get("IP", "").split(",") if part]),
    )
    macs = (("runtimeConfig.mac", runtime.mac), ("args.cni.mac", labels.mac), ("CNI_ARGS MAC", arguments.get("MAC")))
    return Requests(
        addresses=_addresses(ips),
        mac=_mac(macs),
        aliases=_aliases(runtime.aliases, network),
        ports=parse_mappings(runtime.port_mappings or ()),
        bandwidth=parse_bandwidth(runtime.bandwidth),
    )


def _addresses(said: Said) -> tuple[IPv4Address | IPv6Address, ...]:
    return tuple(dict.fromkeys(_address(place, text) for place, texts in said for text in texts or ()))


def _address(place: str, text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_interface(text).ip
    except ValueError as error:
        raise _refused(place, text, "write an address such as 10.244.1.9 or 10.244.1.9/24") from error


def _mac(said: Said) -> str:
    place, text = next(((place, text) for place, text in said if text), ("", ""))
    mac = text.lower().replace("-", ":")
    if mac and (not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or not int(mac.replace(":", ""), 16)):
        raise _refused(place, text, "write a unicast MAC such as 02:00:5e:10:00:01")
    return mac


def _aliases(said: list[str] | dict[str, list[str]] | None, network: str) -> tuple[str, ...]:
    return tuple(said.get(network, ()) if isinstance(said, dict) else said or ())


def _refused(place: str, value: str, problem: str) -> CniError:
    if place.startswith("CNI_ARGS"):
        return CniError(Code.INVALID_ENVIRONMENT, f"{place}={value!r}", problem)
    return invalid(place, value, problem)
