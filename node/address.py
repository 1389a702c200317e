"""By which addresses other nodes reach this one.

It is the source address of this node's own packets to the API server: a machine may have many interfaces, and which
comes first says nothing (on Vagrant machines the first has the same address everywhere). In a dual-stack cluster an
address of the other family on the same link joins it. `--node-ip` overrides both.
"""

import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from dataplane.errors import DataplaneError, NotFound
from dataplane.netlink.interface import Netlink
from dataplane.netlink.objects import Address, Link, Route

Resolve = Callable[[str], Iterable[Address]]


class NodeAddressError(Exception):
    """No address was found by which other nodes could reach this one."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(server, reason)
        self.server = server
        self.reason = reason

    def __str__(self) -> str:
        return f"no node address from the way to the API server {self.server}: {self.reason}; give --node-ip"


def resolve(host: str) -> list[Address]:
    """The addresses of a host name, or the address itself, IPv4 first."""
    found = {ip_address(answer[4][0]) for answer in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    return sorted(found, key=lambda address: (address.version, int(address)))


def choose(netlink: Netlink, server: str, resolve_host: Resolve = resolve) -> Address:
    """The source address of packets to `server`, or to the default gateway when the server listens on loopback."""
    host = urlsplit(server).hostname or ""
    try:
        targets = list(resolve_host(host))
    except OSError as error:
        raise NodeAddressError(server, f"its name cannot be resolved: {error}") from error
    sources = [source for target in targets if (source := _source(netlink, target))]
    if not sources:
        raise NodeAddressError(server, f"no route to {host}, and no default route")
    return sources[0]


def _source(netlink: Netlink, target: Address) -> Address | None:
    default = _default_gateway(netlink, target.version)
    ways = (_way(netlink, each) for each in (target, default) if each)
    return next((way.source for way in ways if way and way.source and not way.source.is_loopback), None)


def _way(netlink: Netlink, target: Address) -> Route | None:
    try:
        return netlink.route_to(target)
    except NotFound:
        return None


def _default_gateway(netlink: Netlink, version: int) -> Address | None:
    defaults = (route for route in netlink.routes() if route.destination.prefixlen == 0)
    return next((route.gateway for route in defaults if route.gateway and route.gateway.version == version), None)


def beside(netlink: Netlink, address: Address) -> Address | None:
    """An address of the other family on the link that has this one; none that only the link knows."""
    link = _link_with(netlink, address)
    held = [each.interface.ip for each in netlink.addresses(link.name)] if link else []
    return next((each for each in held if each.version != address.version and not each.is_link_local), None)


def is_here(netlink: Netlink, address: Address) -> bool:
    """Whether the address is this host's own."""
    way = _way(netlink, address)
    return way is not None and way.device == "lo"


def mtu_of(netlink: Netlink, address: Address) -> int | None:
    """The MTU of the link that has the address: what the way to the other nodes carries."""
    link = _link_with(netlink, address)
    return link.mtu if link else None


def _link_with(netlink: Netlink, address: Address) -> Link | None:
    links = (link for link in netlink.links() if link.master is None)
    return next((link for link in links if _has(netlink, link.name, address)), None)


def _has(netlink: Netlink, name: str, address: Address) -> bool:
    try:
        return any(held.interface.ip == address for held in netlink.addresses(name))
    except DataplaneError:  # gone since it was listed
        return False
