"""The result of an ADD, in the shape each version of the specification gives it.

0.1.0, 0.2.0     ip4 {ip, gateway, routes}
0.3.0 … 0.4.0    interfaces, ips [{version, …}], routes
1.0.0            the same without ips[].version
1.1.0            interfaces say their mtu, routes their mtu, advmss, priority, table and scope
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cni import wiring
from cni.addressing import PodRoute
from cni.conf import NetConf
from cni.spec import Version, parse_version
from dataplane.netlink.objects import Link
from ipam.lease import Lease, LeasedAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    name: str
    mac: str
    mtu: int
    sandbox: str = ""  # the namespace's path; empty for the node's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one attachment consists of. The addresses stand on the last of the interfaces."""

    interfaces: tuple[Interface, ...]
    addresses: tuple[LeasedAddress, ...]
    routes: tuple[PodRoute, ...]
    dns: Mapping[str, Any]


def of(conf: NetConf, lease: Lease, *, netns: str, bridge: Link) -> Result:
    attachment = lease.claim.attachment
    return Result(
        interfaces=(
            Interface(name=conf.bridge, mac=bridge.mac, mtu=bridge.mtu),
            Interface(name=lease.claim.host_veth, mac=wiring.host_mac(attachment), mtu=conf.mtu),
            Interface(name=attachment.ifname, mac=wiring.pod_mac(lease), mtu=conf.mtu, sandbox=netns),
        ),
        addresses=lease.addresses,
        routes=conf.addressing.routes,
        dns=conf.dns,
    )


def to_dict(result: Result, version: str, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """The result as the runtime of this version reads it, added to that of the plugins before in the chain."""
    number = parse_version(version)
    if number < (0, 3, 0):
        return {"cniVersion": version, **flat(result.addresses, result.routes), "dns": dict(result.dns)}
    interfaces = [*(earlier.get("interfaces") or ()), *(_interface(each, number) for each in result.interfaces)]
    shown: dict[str, Any] = {
        "cniVersion": version,
        "interfaces": interfaces,
        "ips": [
            *(earlier.get("ips") or ()),
            *(address(each, number, len(interfaces) - 1) for each in result.addresses),
        ],
        "routes": [*(earlier.get("routes") or ()), *(route(each, number) for each in result.routes)],
    }
    dns = {**(earlier.get("dns") or {}), **result.dns}
    return {**shown, "dns": dns} if dns else shown


def address(given: LeasedAddress, version: Version, interface: int | None = None) -> dict[str, Any]:
    shown: dict[str, Any] = {"address": str(given.interface)}
    if interface is not None:
        shown["interface"] = interface
    if given.gateway:
        shown["gateway"] = str(given.gateway)
    return {**shown, "version": str(given.address.version)} if version < (1, 0, 0) else shown


def flat(addresses: Sequence[LeasedAddress], routes: Sequence[PodRoute]) -> dict[str, Any]:
    """The addresses as versions before 0.3.0 give them: one of each family, with that family's routes."""
    return {f"ip{given.address.version}": _flat(given, routes) for given in addresses}


def _flat(given: LeasedAddress, routes: Sequence[PodRoute]) -> dict[str, Any]:
    own = [route(each) for each in routes if each.destination.version == given.address.version]
    gateway = {"gateway": str(given.gateway)} if given.gateway else {}
    return {"ip": str(given.interface), **gateway, "routes": own}


def route(route: PodRoute, version: Version = (1, 0, 0)) -> dict[str, str | int]:
    shown: dict[str, str | int] = {"dst": str(route.destination)}
    if route.gateway:
        shown["gw"] = str(route.gateway)
    if version < (1, 1, 0):
        return shown
    options = {**asdict(route.options), "scope": None if route.scope is None else route.scope.value}
    return {**shown, **{name: value for name, value in options.items() if value is not None}}


def _interface(interface: Interface, version: Version) -> dict[str, str | int]:
    shown: dict[str, str | int] = {"name": interface.name, "mac": interface.mac}
    if version >= (1, 1, 0):
        shown["mtu"] = interface.mtu
    return {**shown, "sandbox": interface.sandbox} if interface.sandbox else shown
