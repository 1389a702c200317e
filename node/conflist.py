"""The network configuration a container runtime reads, rendered for this node's podCIDRs.

Pure. The masquerading of pods is the agent's own table, one rule for all of them, so the plugin is told not to.
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from dataplane.netlink.objects import Network

FILE_NAME = "10-podwire.conflist"
NETWORK_NAME = "podwire"
CNI_VERSION = "1.0.0"
CNI_VERSIONS = (
    "1.0.0",
    "1.1.0",
)  # for runtimes that know the key: those of 1.0.0 do not, and refuse a newer cniVersion
BRIDGE = "podwire0"
_EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNetwork:
    """What the configuration depends on. `directory` is where the plugin keeps its leases."""

    pod_cidrs: tuple[Network, ...]  # one of each family
    mtu: int
    directory: Path
    has_gates: bool = True  # the kernel can check and limit what pods send


def render(network: PodNetwork) -> bytes:
    plugin = {
        "type": "podwire",
        "capabilities": {"bandwidth": network.has_gates, "portMappings": True},
        "bridge": BRIDGE,
        "mtu": network.mtu,
        "isGateway": True,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "sourceCheck": network.has_gates,
        "ipMasq": False,
        "dataDir": str(network.directory),
        "ipam": {
            "type": "podwire-ipam",
            "ranges": [[{"subnet": str(cidr)}] for cidr in network.pod_cidrs],
            "routes": [{"dst": _EVERYWHERE[cidr.version]} for cidr in network.pod_cidrs],
        },
    }
    conflist = {"cniVersion": CNI_VERSION, "cniVersions": CNI_VERSIONS, "name": NETWORK_NAME, "plugins": [plugin]}
    return msgspec.json.format(msgspec.json.encode(conflist), indent=2) + b"\n"


class _Range(msgspec.Struct, frozen=True):
    subnet: str


class _Ipam(msgspec.Struct, frozen=True):
    ranges: tuple[tuple[_Range, ...], ...] = ()


class _Plugin(msgspec.Struct, frozen=True):
    ipam: _Ipam = _Ipam()


class _Conflist(msgspec.Struct, frozen=True):
    plugins: tuple[_Plugin, ...] = ()


_CONFLIST: Final = msgspec.json.Decoder(_Conflist)


def pod_cidrs(conflist: bytes) -> frozenset[Network]:
    """The networks a configuration gives addresses from; none if it cannot be read."""
    try:
        plugins = _CONFLIST.decode(conflist).plugins
        ranges = [each for plugin in plugins for choices in plugin.ipam.ranges for each in choices]
        return frozenset(ipaddress.ip_network(each.subnet) for each in ranges)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        return frozenset()
