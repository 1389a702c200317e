"""Network namespaces in memory, with the kernel's refusals: what the plugin's and the agent's unit tests run on.

The contract suite runs on this and on the kernel, so each answer here was checked there. What nobody of ours asks the
kernel (carrier, neighbours, other tables) does not exist here.
"""

import errno
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

from dataplane.errors import AlreadyExists, DataplaneError, NotFound, from_errno
from dataplane.netlink.objects import (
    Address,
    Bridge,
    Interface,
    InterfaceAddress,
    Link,
    Protocol,
    Route,
    Scope,
    VethEnd,
    VethPair,
)

_IFNAMSIZ = 15  # include/uapi/linux/if.h, without the final NUL


@dataclass(slots=True)
class FakeKernel:
    """Several namespaces that can reach into each other by descriptor."""

    namespaces: dict[int, "FakeNetlink"] = field(default_factory=dict)
    descriptors: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1000))


class FakeNetlink:
    """One namespace. `fd` stands for a descriptor of it in a VethPair."""

    def __init__(self, kernel: FakeKernel | None = None) -> None:
        self.kernel = kernel or FakeKernel()
        self.fd = next(self.kernel.descriptors)
        self.kernel.namespaces[self.fd] = self
        self._indexes = itertools.count(2)
        self._links = {"lo": Link(name="lo", index=1, mac="00:00:00:00:00:00", mtu=65536)}
        self._addresses: dict[str, dict[Interface, InterfaceAddress]] = {}
        self._routes: list[Route] = []
        self._peers: dict[str, tuple[FakeNetlink, str]] = {}

    def link(self, name: str) -> Link | None:
        return self._links.get(name)

    def links(self) -> tuple[Link, ...]:
        return tuple(self._links.values())

    def create_bridge(self, bridge: Bridge) -> None:
        text = f"create bridge {bridge.name}"
        self._require_free(bridge.name, text)
        self._links[bridge.name] = Link(
            name=bridge.name,
            index=next(self._indexes),
            kind="bridge",
            mac=bridge.mac,
            mtu=bridge.mtu,
            up=True,
            nf_call_iptables=True,
            nf_call_ip6tables=True,
        )

    def create_veth(self, pair: VethPair) -> None:
        text = f"create {pair}"
        other = self.kernel.namespaces.get(pair.netns_fd)
        if other is None:
            raise DataplaneError(text, errno.EBADF)
        master = self._require(pair.master, text).index if pair.master else None
        self._require_free(pair.host.name, text)
        other._require_free(pair.peer.name, text)  # noqa: SLF001 - the other namespace's own check
        host = self._add_end(pair.host, pair.mtu)
        peer = other._add_end(pair.peer, pair.mtu)  # noqa: SLF001
        netnsid = None if self is other else 0
        self._links[host.name] = replace(
            host,
            up=True,
            master=master,
            alias=pair.alias,
            hairpin=pair.hairpin,
            peer_index=peer.index,
            peer_netnsid=netnsid,
        )
        other._links[peer.name] = replace(peer, peer_index=host.index, peer_netnsid=netnsid)  # noqa: SLF001
        self._peers[host.name] = (other, peer.name)
        other._peers[peer.name] = (self, host.name)  # noqa: SLF001

    def _add_end(self, end: VethEnd, mtu: int) -> Link:
        link = Link(name=end.name, index=next(self._indexes), kind="veth", mac=end.mac, mtu=mtu)
        self._links[end.name] = link
        return link

    def set_up(self, name: str) -> None:
        link = self._require(name, f"set {name} up")
        self._links[name] = replace(link, up=True)
        for address in self._addresses.get(name, {}):
            self._connect(name, address)

    def set_alias(self, name: str, alias: str) -> None:
        self._links[name] = replace(self._require(name, f"set alias of {name}"), alias=alias)

    def delete_link(self, name: str) -> None:
        if name not in self._links:
            return
        self._forget(name)
        if name in self._peers:
            other, peer = self._peers.pop(name)
            other._peers.pop(peer)  # noqa: SLF001
            other._forget(peer)  # noqa: SLF001

    def _forget(self, name: str) -> None:
        gone = self._links.pop(name)
        self._addresses.pop(name, None)
        self._drop_routes(lambda route: route.device == name)
        for port in [link for link in self._links.values() if link.master == gone.index]:
            self._links[port.name] = replace(port, master=None, hairpin=False)

    def addresses(self, name: str) -> tuple[InterfaceAddress, ...]:
        self._require(name, f"list addresses of {name}")
        return tuple(self._addresses.get(name, {}).values())

    def add_address(self, name: str, address: InterfaceAddress) -> None:
        text = f"add address {address.interface} to {name}"
        link = self._require(name, text)
        held = self._addresses.setdefault(name, {})
        if address.interface in held:
            raise AlreadyExists(text, errno.EEXIST)
        held[address.interface] = address
        if link.up:
            self._connect(name, address.interface)

    def delete_address(self, name: str, interface: Interface) -> None:
        if self._addresses.get(name, {}).pop(interface, None):
            self._drop_routes(lambda route: route.source == interface.ip)

    def _connect(self, device: str, interface: Interface) -> None:
        if interface.network.num_addresses == 1 and interface.version == 4:
            return  # a host route lives in the local table only
        source = interface.ip if interface.version == 4 else None
        route = Route(destination=interface.network, device=device, source=source, protocol=Protocol.KERNEL)
        if route not in self._routes:
            self._routes.append(route)

    def _drop_routes(self, doomed: Callable[[Route], bool]) -> None:
        self._routes = [route for route in self._routes if not doomed(route)]

    def routes(self, protocol: int | None = None) -> tuple[Route, ...]:
        return tuple(route for route in self._routes if protocol is None or route.protocol == protocol)

    def add_route(self, route: Route) -> None:
        resolved = self._resolve(route, f"add route {route}")
        if any(held.destination == route.destination for held in self._routes):
            raise AlreadyExists(f"add route {route}", errno.EEXIST)
        self._routes.append(resolved)

    def replace_route(self, route: Route) -> None:
        resolved = self._resolve(route, f"replace route {route}")
        self._drop_routes(lambda held: held.destination == route.destination)
        self._routes.append(resolved)

    def delete_route(self, route: Route) -> None:
        self._drop_routes(lambda held: _same_route(held, route))

    def _resolve(self, route: Route, text: str) -> Route:
        device = route.device or self._device_to(route.gateway, text)
        if not self._require(device, text).up:
            raise DataplaneError(text, errno.ENETDOWN)
        if route.gateway and self._device_to(route.gateway, text) != device:
            raise DataplaneError(text, errno.ENETUNREACH)
        if route.source and not self._is_local(route.source):
            raise DataplaneError(text, errno.EINVAL)
        return replace(route, device=device)

    def _device_to(self, gateway: Address | None, text: str) -> str:
        for route in self._routes:
            if gateway and gateway in route.destination and not route.gateway and route.device:
                return route.device
        raise from_errno(text, errno.ENETUNREACH if gateway else errno.ENODEV)

    def _is_local(self, address: Address) -> bool:
        return any(address == interface.ip for held in self._addresses.values() for interface in held)

    def route_to(self, address: Address) -> Route:
        if self._is_local(address):
            host = ip_network(address)
            return Route(destination=host, device="lo", source=address, scope=Scope.UNIVERSE, protocol=Protocol.UNSPEC)
        candidates = [route for route in self._routes if address in route.destination]
        if not candidates:
            raise NotFound(f"route to {address}", errno.ENETUNREACH)
        best = max(candidates, key=lambda route: route.destination.prefixlen)
        source = best.source or self._source_on(best, address)
        return Route(
            destination=ip_network(address),
            gateway=best.gateway,
            device=best.device,
            source=source,
            scope=Scope.UNIVERSE,
            protocol=Protocol.UNSPEC,
        )

    def _source_on(self, route: Route, address: Address) -> Address | None:
        held = self._addresses.get(route.device or "", {})
        return next((interface.ip for interface in held if interface.version == address.version), None)

    def close(self) -> None:
        """Nothing is held: the namespace stays for whoever else looks at it."""

    def _require(self, name: str, text: str) -> Link:
        if name not in self._links:
            raise NotFound(text, errno.ENODEV)
        return self._links[name]

    def _require_free(self, name: str, text: str) -> None:
        if not 0 < len(name) <= _IFNAMSIZ:
            raise DataplaneError(text, errno.ERANGE)
        if name in self._links:
            raise AlreadyExists(text, errno.EEXIST)


def _same_route(held: Route, route: Route) -> bool:
    return (
        held.destination == route.destination
        and all(
            wanted in (None, found)
            for wanted, found in (
                (route.gateway, held.gateway),
                (route.device, held.device),
                (route.source, held.source),
            )
        )
        and held.protocol == route.protocol
    )
