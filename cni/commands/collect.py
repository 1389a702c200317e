"""GC: remove every attachment of this network that the runtime does not count among its own (spec 1.1.0 §4, GC).

A configuration without the list says nothing about who is valid, so nothing valid is touched; an empty list says that
nobody is. One attachment that cannot be removed stops no other: what failed is reported together at the end. A call that
is under way keeps its attachment, and a runtime repeats GC.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cni import gate_table, hostports, leftovers, port_table, wiring
from cni.conf import Essentials
from cni.delegation import Delegate
from cni.host import Host
from cni.spec import CniError, Code, Command
from dataplane.errors import DataplaneError
from ipam.lease import Attachment, Lease
from ipam.leases import LeaseError, Leases

_OURS = re.compile(r"pw[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What a GC works on; `bridge` is where the network's veths are."""

    essentials: Essentials
    bridge: str
    delegate: Delegate | None = None


_FAILURES = (CniError, DataplaneError, LeaseError, OSError)


def collect(valid: frozenset[Attachment] | None, network: Network, host: Host) -> None:
    """`valid` is None when the runtime did not say."""
    essentials = network.essentials
    if valid is None:
        leftovers.sweep(essentials.name, essentials.directory, host)
        return
    failures = [
        *_stale_leases(valid, network, host),
        *_stale_veths(valid, network, host),
        *_left_over(essentials, host),
    ]
    failures += _forwarded(network)
    if failures:
        msg = f"{len(failures)} stale attachments of network {essentials.name} could not be removed"
        raise CniError(Code.TRY_AGAIN_LATER, msg, "; ".join(failures))


def _stale_leases(valid: frozenset[Attachment], network: Network, host: Host) -> Iterator[str]:
    essentials = network.essentials
    with host.leases(essentials.directory) as leases:
        for lease in leases.of(essentials.name):
            if lease.claim.attachment not in valid:
                yield from _remove(lease, network, host, leases)


def _remove(lease: Lease, network: Network, host: Host, leases: Leases) -> Iterator[str]:
    try:
        with leftovers.held_if_free(network.essentials.directory, lease) as is_held:
            if is_held and leases.find(lease.claim.attachment) == lease:
                leftovers.remove(host, leases, lease, network.delegate)
    except _FAILURES as error:
        yield f"{lease.claim.attachment}: {error}"


def _left_over(essentials: Essentials, host: Host) -> Iterator[str]:
    """What the runtime counts as valid, but never got or has lost."""
    try:
        leftovers.sweep(essentials.name, essentials.directory, host)
    except _FAILURES as error:
        yield f"left over: {error}"


def _forwarded(network: Network) -> Iterator[str]:
    """The other plugin is told the valid ones as well: it may have given addresses that never reached a pod."""
    if network.delegate:
        try:
            network.delegate.run(Command.GC)
        except CniError as error:
            yield str(error)


def _stale_veths(valid: frozenset[Attachment], network: Network, host: Host) -> Iterator[str]:
    """Veths, hostPorts and gates whose lease was lost with the lease file. Their names cannot be read backwards: the valid ones are excluded."""
    essentials = network.essentials
    found = (
        _veths_of(essentials.name, network.bridge, host)
        | _publishing(essentials.name, host)
        | _gated(essentials.name, host)
    )
    with host.leases(essentials.directory) as leases:  # after the links: whoever made a link had a lease before it
        leased = {lease.claim.host_veth for lease in leases.of(essentials.name)}
    for name in sorted(found - leased - _names(valid)):
        try:
            leftovers.unwire(host, name)
        except _FAILURES as error:
            yield f"{name}: {error}"


def _publishing(network: str, host: Host) -> set[str]:
    """The veths that hostPorts of this network belong to, whether they are still there or not."""
    with host.nft() as nft:
        held = port_table.published(nft)
    origins = [hostports.origin(element) for elements in held.values() for element in elements]
    return {origin.veth for origin in origins if origin.network == network}


def _gated(network: str, host: Host) -> set[str]:
    with host.gates() as nft:
        return set(gate_table.ports_of(nft, network))


def _veths_of(network: str, bridge: str, host: Host) -> set[str]:
    links = host.netlink.links()
    master = next((link.index for link in links if link.name == bridge), None)
    return {
        link.name
        for link in links
        if link.master is not None
        and link.master == master
        and _OURS.fullmatch(link.name)
        and wiring.is_mac_of(link.mac, network)
    }


def _names(attachments: Iterable[Attachment]) -> set[str]:
    return {wiring.host_veth(attachment) for attachment in attachments}
