"""The result of an ADD, in the shape each version of the specification gives it.

0.1.0, 0.2.0     ip4 {ip, gateway, routes}
0.3.0 … 0.4.0    interfaces, ips [{version, …}], routes
1.0.0            the same without ips[].version
1.1.0            interfaces say their mtu as well
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cni import wiring
from cni.conf import NetConf, PodRoute
from cni.spec import Version, parse_version
from dataplane.netlink.objects import Link
from ipam import address as families
from ipam.lease import Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    name: str
    mac: str
    mtu: int
    sandbox: str = ""  # the namespace's path; empty for the node's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one attachment consists of. `address` stands on the last of the interfaces."""

    interfaces: tuple[Interface, ...]
    address: families.Interface
    gateway: families.Address | None
    routes: tuple[PodRoute, ...]
    dns: Mapping[str, Any]


def of(conf: NetConf, lease: Lease, *, netns: str, bridge: Link) -> Result:
    attachment = lease.claim.attachment
    return Result(
        interfaces=(
            Interface(name=conf.bridge, mac=bridge.mac, mtu=bridge.mtu),
            Interface(name=lease.claim.host_veth, mac=wiring.host_mac(attachment), mtu=conf.mtu),
            Interface(name=attachment.ifname, mac=wiring.pod_mac(conf, lease), mtu=conf.mtu, sandbox=netns),
        ),
        address=lease.interface,
        gateway=lease.gateway,
        routes=conf.routes,
        dns=conf.dns,
    )


def to_dict(result: Result, version: str, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """The result as the runtime of this version reads it, added to that of the plugins before in the chain."""
    number = parse_version(version)
    if number < (0, 3, 0):
        return _flat(result, version)
    interfaces = [*(earlier.get("interfaces") or ()), *(_interface(each, number) for each in result.interfaces)]
    address: dict[str, Any] = {"address": str(result.address), "interface": len(interfaces) - 1}
    if result.gateway:
        address["gateway"] = str(result.gateway)
    if number < (1, 0, 0):
        address["version"] = "4"
    shown: dict[str, Any] = {
        "cniVersion": version,
        "interfaces": interfaces,
        "ips": [*(earlier.get("ips") or ()), address],
        "routes": [*(earlier.get("routes") or ()), *map(_route, result.routes)],
    }
    dns = {**(earlier.get("dns") or {}), **result.dns}
    return {**shown, "dns": dns} if dns else shown


def _flat(result: Result, version: str) -> dict[str, Any]:
    address: dict[str, Any] = {"ip": str(result.address), "routes": [_route(route) for route in result.routes]}
    if result.gateway:
        address["gateway"] = str(result.gateway)
    return {"cniVersion": version, "ip4": address, "dns": dict(result.dns)}


def _interface(interface: Interface, version: Version) -> dict[str, str | int]:
    shown: dict[str, str | int] = {"name": interface.name, "mac": interface.mac}
    if version >= (1, 1, 0):
        shown["mtu"] = interface.mtu
    return {**shown, "sandbox": interface.sandbox} if interface.sandbox else shown


def _route(route: PodRoute) -> dict[str, str]:
    shown = {"dst": str(route.destination)}
    return {**shown, "gw": str(route.gateway)} if route.gateway else shown
