"""Leases read back from the kernel, when the lease file is damaged or lost.

A pod's wiring says nearly everything: the node's end of the veth is named and marked as ours and carries the owner, the
pod's end carries the addresses. What it does not say is the container's id. So a rebuilt lease bears the veth's name in
its place; a DEL removes that veth, and the lease goes with it at the next collection.

All or nothing: a veth whose pod cannot be found keeps every address from being given, because one might be given twice.
"""

import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cni import wiring
from cni.host import Host, OpenNetns
from dataplane import living_namespaces, nsid
from dataplane.errors import NotFound
from dataplane.netlink.interface import Netlink
from dataplane.netlink.objects import Link
from ipam.address import Interface
from ipam.lease import Attachment, Claim, Lease, LeasedAddress, Sandbox, State

PREFIX = "rebuilt-"
_OURS = re.compile(r"pw[0-9a-f]{12}")


class Uncertain(Exception):
    """Some pods' addresses are not known."""

    def __init__(self, veths: Collection[str]) -> None:
        super().__init__(veths)
        self.veths = veths

    def __str__(self) -> str:
        named = ", ".join(sorted(self.veths))
        return (
            f"the addresses of the pods at {named} cannot be told: name the networks of all of them with --network, or delete"
            " these pods, and try again"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    name: str
    gateways: Sequence[Interface]  # the bridge's own addresses


def survivors(host: Host, networks: Mapping[str, str]) -> tuple[Lease, ...]:
    """A lease for every pod of the networks, given with their bridges. Raises Uncertain.

    One file holds all networks: a veth of ours that belongs to none of these is as uncertain as one without addresses.
    """
    found = tuple(lease for name, bridge in networks.items() for lease in survivors_of(host, name, bridge))
    known = {lease.claim.host_veth for lease in found}
    if missing := {link.name for link in host.netlink.links() if _OURS.fullmatch(link.name)} - known:
        raise Uncertain(missing)
    return found


def survivors_of(host: Host, name: str, bridge: str) -> tuple[Lease, ...]:
    """A lease for every pod of one network. Raises Uncertain."""
    links = host.netlink.links()
    master = next((link.index for link in links if link.name == bridge), None)
    ends = [link for link in links if master and link.master == master and wiring.is_mac_of(link.mac, name)]
    if not ends:
        return ()
    network = _Network(name=name, gateways=tuple(held.interface for held in host.netlink.addresses(bridge)))
    places = living_namespaces.living().values()
    found = {veth.name: lease for place in places for veth, lease in _in_namespace(host, place, ends, network)}
    if missing := {link.name for link in ends} - set(found):
        raise Uncertain(missing)
    return tuple(found[veth] for veth in sorted(found))


def _in_namespace(host: Host, place: Path, ends: Sequence[Link], network: _Network) -> Iterator[tuple[Link, Lease]]:
    try:
        opened = host.open_netns(str(place))
    except NotFound:
        return
    with opened as pod:
        number = nsid.nsid_of(pod.fd)
        here = [link for link in ends if number is not None and link.peer_netnsid == number]
        if not here:
            return
        with host.inside(pod) as inside:
            for veth in here:
                if lease := _lease(host, pod, inside, veth, network):
                    yield veth, lease


def _lease(host: Host, pod: OpenNetns, inside: Netlink, veth: Link, network: _Network) -> Lease | None:
    far = next((link for link in inside.links() if link.index == veth.peer_index), None)
    if far is None:
        return None
    interfaces = [held.interface for held in inside.addresses(far.name)]
    addresses = tuple(given for each in interfaces if (given := _given(each, network)))
    if not addresses:
        return None
    claim = Claim(
        attachment=Attachment(network=network.name, container_id=f"{PREFIX}{veth.name}", ifname=far.name),
        token=secrets.token_hex(16),
        sandbox=Sandbox(device=pod.identity.device, inode=pod.identity.inode, boot_id=host.boot_id),
        host_veth=veth.name,
        owner=veth.alias or veth.name,
        mac=far.mac,
    )
    return Lease(claim=claim, addresses=addresses, state=State.ACTIVE)


def _given(interface: Interface, network: _Network) -> LeasedAddress | None:
    for gateway in network.gateways:
        if gateway.network == interface.network:
            return LeasedAddress(address=interface.ip, network=interface.network, gateway=gateway.ip)
    return None
