"""The shape a result has in each version of the specification (§5 Result Types), and what can be read from it. Pure.

0.1.0, 0.2.0     ip4 / ip6 {ip, gateway, routes}
0.3.0 … 0.4.0    interfaces, ips [{version, address, …}], routes
1.0.0, 1.1.0     the same without ips[].version
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any

from cni.spec import parse_version

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True, kw_only=True)
class PromisedRoute:
    """A route of a result, with the gateway that a route without one takes (that of the address of its family)."""

    destination: str
    gateway: str | None


def problems(result: Mapping[str, Any], version: str) -> list[str]:
    """What keeps a result from being one of this version."""
    found = [] if result.get("cniVersion") == version else [f"cniVersion is {result.get('cniVersion')!r}"]
    number = parse_version(version)
    found += _flat_problems(result) if number < (0, 3, 0) else _listed_problems(result, has_family=number < (1, 0, 0))
    if not isinstance(result.get("dns", {}), dict):
        found.append("dns is not an object")
    return found


def _flat_problems(result: Mapping[str, Any]) -> list[str]:
    found = [f"{key} belongs to later versions" for key in ("interfaces", "ips", "routes") if key in result]
    families = [key for key in ("ip4", "ip6") if result.get(key)]
    if not families:
        found.append("neither ip4 nor ip6")
    for key in families:
        part = result[key]
        if not isinstance(part, dict) or not _is_interface(part.get("ip")):
            found.append(f"{key}.ip is no address with a prefix length")
        else:
            found += _route_problems(part.get("routes") or [], f"{key}.routes")
    return found


def _listed_problems(result: Mapping[str, Any], *, has_family: bool) -> list[str]:
    found = [f"{key} belongs to earlier versions" for key in ("ip4", "ip6") if key in result]
    interfaces, ips = result.get("interfaces"), result.get("ips")
    if not isinstance(interfaces, list) or not interfaces:
        found.append("no interfaces")
        interfaces = []
    found += [f"interfaces[{index}] has no name" for index, each in enumerate(interfaces) if not _has_name(each)]
    if not isinstance(ips, list) or not ips:
        found.append("no ips")
        ips = []
    for index, entry in enumerate(ips):
        found += [f"ips[{index}]{problem}" for problem in _ip_problems(entry, len(interfaces), has_family=has_family)]
    return found + _route_problems(result.get("routes") or [], "routes")


def _has_name(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str) and bool(entry["name"])


def _ip_problems(entry: Any, interfaces: int, *, has_family: bool) -> Iterator[str]:
    if not isinstance(entry, dict) or not _is_interface(entry.get("address")):
        yield ".address is no address with a prefix length"
        return
    family = str(ip_interface(entry["address"]).version)
    if has_family and entry.get("version") != family:
        yield f".version is {entry.get('version')!r}, not {family!r}"
    if not has_family and "version" in entry:
        yield ".version was removed in 1.0.0"
    if "gateway" in entry and not _is_address(entry["gateway"]):
        yield f".gateway is {entry['gateway']!r}"
    index = entry.get("interface")
    if index is not None and not (isinstance(index, int) and 0 <= index < interfaces):
        yield f".interface is {index!r}, and there are {interfaces}"


def _route_problems(routes: Any, field: str) -> list[str]:
    if not isinstance(routes, list):
        return [f"{field} is no list"]
    return [
        f"{field}[{index}].dst is no network"
        for index, each in enumerate(routes)
        if not (isinstance(each, dict) and _is_network(each.get("dst")))
    ]


def _is_interface(text: Any) -> bool:
    try:
        return isinstance(text, str) and "/" in text and bool(ip_interface(text))
    except ValueError:
        return False


def _is_network(text: Any) -> bool:
    try:
        return isinstance(text, str) and bool(ip_network(text, strict=False))
    except ValueError:
        return False


def _is_address(text: Any) -> bool:
    try:
        return isinstance(text, str) and bool(ip_address(text))
    except ValueError:
        return False


def addresses(result: Mapping[str, Any]) -> list[Interface]:
    """The addresses a result promises, in any version's shape; what is malformed is left out."""
    flat: list[Any] = [part.get("ip") for key in ("ip4", "ip6") if isinstance(part := result.get(key), dict)]
    listed: list[Any] = [entry.get("address") for entry in result.get("ips") or [] if isinstance(entry, dict)]
    return [ip_interface(text) for text in (*flat, *listed) if _is_interface(text)]


def routes(result: Mapping[str, Any]) -> list[PromisedRoute]:
    """The routes of a result with interfaces (0.3.0 and later)."""
    gateways = {
        ip_interface(entry["address"]).version: entry.get("gateway")
        for entry in result.get("ips") or []
        if isinstance(entry, dict) and _is_interface(entry.get("address"))
    }
    found = []
    for each in result.get("routes") or []:
        destination = ip_network(each["dst"], strict=False)
        gateway = each.get("gw") or gateways.get(destination.version)
        found.append(PromisedRoute(destination=str(destination), gateway=gateway))
    return found


def inside(result: Mapping[str, Any], ifname: str) -> Mapping[str, Any] | None:
    """The entry of the container's interface."""
    entries = (each for each in result.get("interfaces") or [] if isinstance(each, dict))
    return next((each for each in entries if each.get("name") == ifname and each.get("sandbox")), None)
