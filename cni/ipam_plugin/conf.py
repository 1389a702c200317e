"""What `podwire-ipam` reads of a main plugin's configuration: the `ipam` section and what the runtime asks for.

The rest belongs to the main plugin and is not looked at, whatever it says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni import conf, wire_types
from cni.addressing import Addressing, parse_addressing
from cni.ipam_plugin import resolv_conf
from cni.requests import parse_requests
from cni.spec import invalid
from ipam.address import Address

DEFAULT_DIRECTORY = "/var/lib/podwire/ipam"
_READ = ("ipam", "runtimeConfig", "args", "prevResult")


@dataclass(frozen=True, slots=True, kw_only=True)
class IpamConf:
    name: str
    version: str
    addressing: Addressing
    wanted: tuple[Address, ...]
    dns: Mapping[str, Any]
    previous: wire_types.PreviousResult | None


def parse_directory(document: Mapping[str, Any]) -> Path:
    """Where the leases are: all that a DEL must know of the section."""
    ipam = document.get("ipam")
    directory = (ipam.get("dataDir") if isinstance(ipam, dict) else None) or DEFAULT_DIRECTORY
    if not isinstance(directory, str) or not directory.startswith("/"):
        raise invalid("ipam.dataDir", directory, "must be an absolute path")
    return Path(directory)


def parse_ipam_conf(document: Mapping[str, Any], arguments: Mapping[str, str]) -> IpamConf:
    """Check everything ADD, CHECK and STATUS depend on. Raises CniError 4 or 7."""
    essentials = conf.parse_essentials({key: document.get(key) for key in ("name", "cniVersion")})
    wire = conf.shaped({key: document[key] for key in _READ if document.get(key) is not None})
    given = (wire.runtime_config.ip_ranges if wire.runtime_config else None) or []
    return IpamConf(
        name=essentials.name,
        version=essentials.version,
        addressing=parse_addressing(wire.ipam, given, version=essentials.version, is_default_gateway=False),
        wanted=parse_requests(wire, arguments, essentials.name).addresses,
        dns=resolv_conf.read("ipam.resolvConf", wire.ipam.resolv_conf),
        previous=wire.prev_result,
    )
