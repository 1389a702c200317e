"""Taking an attachment apart, and finding those that nobody will ever take apart.

The order is the safety: first the kernel's part goes, then the lease. Killed in between, an address is kept too long,
never given twice.

A lease is left over when nobody can be using its address: its namespace is gone, and the veth went with it; or its call
died half-way, so its runtime never got an answer. A veth that is not found by its name may have been renamed or moved
away: as long as the address stands in the namespace it was given to, the pod lives. The namespace alone proves nothing,
its inode number is given to the next one as soon as it is free.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cni import gate_table, hostports, locks, port_table, wiring
from cni.delegation import Delegate
from cni.gate import Check
from cni.host import Host
from cni.spec import CniError, Command
from dataplane.netlink.objects import Address
from dataplane.netns import Identity
from ipam.lease import Lease, State
from ipam.leases import Leases


def remove(host: Host, leases: Leases, lease: Lease, delegate: Delegate | None = None) -> None:
    """Unwire the attachment and give its address back. Never enters the pod's namespace: the pod's end goes with ours."""
    if lease.claim.host_veth:
        _disconnect(host, lease.claim.host_veth)
        with host.gates() as nft:
            gate_table.take_away(nft, wiring.gate(lease, Check.NONE))
    if delegate:
        delegate.run(Command.DEL, lease.claim.attachment)
    leases.release(lease)


def unwire(host: Host, veth: str) -> None:
    """The kernel's part of an attachment of which nothing is known but its veth's name."""
    _disconnect(host, veth)
    with host.gates() as nft:
        gate_table.sweep_away(nft, lambda port: port == veth)


def _disconnect(host: Host, veth: str) -> None:
    """First nobody is led to the pod any more, then it goes. Its gate stands until then."""
    unpublish(host, frozenset({veth}))
    host.netlink.delete_link(veth)


def unpublish(host: Host, veths: Collection[str]) -> None:
    """Withdraw the hostPorts of attachments that are named by their veths."""
    with host.nft() as nft:
        gone = port_table.withdraw(nft, lambda origin: origin.veth in veths)
    if hostports.udp_ports(gone):
        with host.udp_flows() as flows:
            port_table.forget_gone(flows, gone)


def sweep(network: str, directory: Path, host: Host) -> tuple[Lease, ...]:
    """Remove what killed calls and vanished namespaces left of a network; return the leases that were freed."""
    with host.leases(directory) as leases:
        leases.begin_boot(host.boot_id)
    return take_back(find(network, directory, host), directory, host)


def find(network: str, directory: Path, host: Host) -> tuple[Lease, ...]:
    """The leases that look left over at this moment. Of those that are pending most are calls under way."""
    with host.leases(directory) as leases:
        held = leases.of(network)
    present = {link.name for link in host.netlink.links()}
    suspects = [lease for lease in held if lease.state is State.PENDING or _is_unwired(lease, present)]
    held_inside = host.addresses_in([_identity(lease) for lease in suspects if lease.state is State.ACTIVE])
    return tuple(
        lease
        for lease in suspects
        if lease.state is State.PENDING or not _is_held(lease, held_inside.get(_identity(lease), frozenset()))
    )


def _is_held(lease: Lease, addresses: Collection[Address]) -> bool:
    return any(interface.ip in addresses for interface in lease.interfaces)


def _is_unwired(lease: Lease, present: Collection[str]) -> bool:
    # A lease that was taken over from another plugin does not know its veth: nobody can tell, and it stays.
    return bool(lease.claim.host_veth) and lease.claim.host_veth not in present


def _identity(lease: Lease) -> Identity:
    return Identity(device=lease.claim.sandbox.device, inode=lease.claim.sandbox.inode)


def take_back(suspects: Iterable[Lease], directory: Path, host: Host) -> tuple[Lease, ...]:
    """Remove those of the suspects that no call holds and that are still as they were found; return them."""
    with host.leases(directory) as leases:
        return tuple(lease for lease in suspects if _is_removed(lease, directory, host, leases))


def _is_removed(lease: Lease, directory: Path, host: Host, leases: Leases) -> bool:
    with held_if_free(directory, lease) as is_held:
        # The call that held it a moment ago may have finished it, or replaced it by another.
        if not is_held or leases.find(lease.claim.attachment) != lease:
            return False
        if lease.state is State.ACTIVE and host.netlink.link(lease.claim.host_veth):
            return False
        remove(host, leases, lease)
        return True


@contextmanager
def held_if_free(directory: Path, lease: Lease) -> Iterator[bool]:
    """Hold the attachment if nobody does; say whether."""
    lock = locks.attachment_lock(directory, lease.claim.attachment, patience=0)
    try:
        lock.__enter__()
    except CniError:
        yield False
        return
    try:
        yield True
    finally:
        lock.__exit__(None, None, None)
