"""The kernel's part of a lab: namespaces, the underlay bridge, a veth to each node, addresses and default routes.

Everything here is ensured, not made: what is right is left alone, what is missing or broken is made again and named
in the answer. A machine that rebooted has lost all of it, and is repaired by the same steps.
"""

import contextlib
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

from dataplane import netns
from dataplane.errors import NotFound
from dataplane.netlink.interface import Netlink
from dataplane.netlink.linux import LinuxNetlink
from dataplane.netlink.objects import Address, Bridge, Interface, InterfaceAddress, Network, Route, VethEnd, VethPair
from lab import plan
from lab.errors import LabError
from lab.plan import Lab, NodePlan

_DEFAULT_ROUTES: dict[int, Network] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}


def ensure_underlay(lab: Lab) -> tuple[str, ...]:
    """Make what is missing of the underlay; return what that was, in words."""
    made = _ensure_namespace(lab.namespace)
    with _inside(lab.namespace) as netlink:
        _ensure_up(netlink, "lo")
        if netlink.link(plan.UNDERLAY_BRIDGE) is None:
            netlink.create_bridge(Bridge(name=plan.UNDERLAY_BRIDGE, mac=mac_of(plan.GATEWAY.ip)))
            made += (f"bridge {plan.UNDERLAY_BRIDGE}",)
        made += _ensure_address(netlink, plan.UNDERLAY_BRIDGE, plan.GATEWAY)
        if lab.is_dual_stack:
            made += _ensure_address(netlink, plan.UNDERLAY_BRIDGE, plan.GATEWAY6)
        _ensure_up(netlink, plan.UNDERLAY_BRIDGE)
    return made


def ensure_node(lab: Lab, node: NodePlan) -> tuple[str, ...]:
    """Make what is missing of a node's namespace and its link to the underlay; return what that was, in words."""
    made = _ensure_namespace(node.namespace)
    with _inside(lab.namespace) as underlay, _inside(node.namespace) as inside:
        _ensure_up(inside, "lo")
        if not _is_connected(underlay, inside, node):
            _connect(underlay, node)
            made += (f"link of {node.name}",)
        made += _ensure_address(inside, plan.UPLINK, node.address)
        if node.address6:
            made += _ensure_address(inside, plan.UPLINK, node.address6)
        _ensure_up(inside, plan.UPLINK)
        made += _ensure_default_route(inside, node.name, plan.GATEWAY.ip)
        if node.address6:
            made += _ensure_default_route(inside, node.name, plan.GATEWAY6.ip)
    return made


def _ensure_default_route(netlink: Netlink, node: str, gateway: Address) -> tuple[str, ...]:
    route = Route(destination=_DEFAULT_ROUTES[gateway.version], gateway=gateway, device=plan.UPLINK)
    if any((have.destination, have.gateway) == (route.destination, gateway) for have in netlink.routes()):
        return ()
    netlink.replace_route(route)
    return (f"default route of {node}",)


def _ensure_namespace(name: str) -> tuple[str, ...]:
    try:
        netns.open_netns(path_of(name)).close()
    except NotFound:
        # The name may be left over from before a reboot, as a file with no namespace behind it.
        netns.delete(name)
        netns.create(name)
        return (f"namespace {name}",)
    return ()


def _is_connected(underlay: Netlink, inside: Netlink, node: NodePlan) -> bool:
    port, uplink = underlay.link(node.name), inside.link(plan.UPLINK)
    bridge = underlay.link(plan.UNDERLAY_BRIDGE)
    if port is None or uplink is None or bridge is None:
        return False
    return port.peer_index == uplink.index and port.master == bridge.index and port.up


def _connect(underlay: Netlink, node: NodePlan) -> None:
    underlay.delete_link(node.name)
    with netns.open_netns(path_of(node.namespace)) as target:
        underlay.create_veth(
            VethPair(
                host=VethEnd(name=node.name, mac=_port_mac(node)),
                peer=VethEnd(name=plan.UPLINK, mac=mac_of(node.address.ip)),
                netns_fd=target.fd,
                master=plan.UNDERLAY_BRIDGE,
                alias=node.namespace,
            )
        )


def _port_mac(node: NodePlan) -> str:
    """The bridge port's own address, which must differ from its peer's."""
    return "06" + mac_of(node.address.ip)[2:]


def _ensure_up(netlink: Netlink, device: str) -> None:
    link = netlink.link(device)
    if link is None or not link.up:
        netlink.set_up(device)


def _ensure_address(netlink: Netlink, device: str, address: Interface) -> tuple[str, ...]:
    if any(have.interface == address for have in netlink.addresses(device)):
        return ()
    netlink.add_address(device, InterfaceAddress(interface=address))
    return (f"address {address} on {device}",)


def mac_of(address: IPv4Address) -> str:
    """A locally administered MAC address that says which IPv4 address it belongs to."""
    return ":".join(f"{byte:02x}" for byte in (0x0A, 0x58, *address.packed))


def path_of(namespace: str) -> Path:
    return netns.DIRECTORY / namespace


@contextlib.contextmanager
def _inside(namespace: str) -> Iterator[Netlink]:
    with netns.open_netns(path_of(namespace)) as target:
        netlink = LinuxNetlink(netns_fd=target.fd)
        try:
            yield netlink
        finally:
            netlink.close()


def namespaces(name: str) -> tuple[str, ...]:
    """Return the names below /run/netns that belong to a lab: underlay, nodes and pods."""
    if not netns.DIRECTORY.is_dir():
        return ()
    entries = (entry.name for entry in netns.DIRECTORY.iterdir())
    return tuple(sorted(entry for entry in entries if entry == f"pw-{name}" or entry.startswith(f"pw-{name}-")))


def identities(names: tuple[str, ...]) -> frozenset[netns.Identity]:
    """Return which namespaces these names stand for; names without one are left out."""
    found = set()
    for name in names:
        with contextlib.suppress(NotFound), netns.open_netns(path_of(name)) as target:
            found.add(target.identity)
    return frozenset(found)


def identity(name: str) -> netns.Identity:
    """Return which namespace a name stands for. Raises LabError when there is none."""
    try:
        with netns.open_netns(path_of(name)) as target:
            return target.identity
    except NotFound as error:
        raise LabError(f"the namespace {name} is gone", "Repair the lab with: podwire lab up") from error


def remove(names: tuple[str, ...]) -> None:
    """Remove namespaces with everything in them that no process holds."""
    for name in names:
        netns.delete(name)
