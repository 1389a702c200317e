"""Taking an attachment apart, and finding those that nobody will ever take apart.

The order is the safety: first the kernel's part goes, then the lease. Killed in between, an address is kept too long,
never given twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cni import locks
from cni.host import Host
from cni.spec import CniError
from ipam.lease import Lease, State
from ipam.leases import Leases


def remove(host: Host, leases: Leases, lease: Lease) -> None:
    """Unwire the attachment and give its address back. Never enters the pod's namespace: the pod's end goes with ours."""
    host.netlink.delete_link(lease.claim.host_veth)
    leases.release(lease)


def sweep(network: str, directory: Path, host: Host) -> tuple[Lease, ...]:
    """Remove what killed calls and vanished namespaces left of a network; return the leases that were freed.

    A namespace that goes takes the veth with it, so a lease without a veth belongs to nobody. So does a pending one
    whose call no longer holds the attachment: its runtime never got an answer.
    """
    with host.leases(directory) as leases:
        return tuple(lease for lease in leases.of(network) if _is_removed(lease, directory, host, leases))


def _is_removed(lease: Lease, directory: Path, host: Host, leases: Leases) -> bool:
    if not _is_suspect(lease, host):
        return False
    with _held_if_free(directory, lease) as is_held:
        # The call that held it a moment ago may have finished it, or replaced it by another.
        if not is_held or leases.find(lease.claim.attachment) != lease:
            return False
        remove(host, leases, lease)
        return True


def _is_suspect(lease: Lease, host: Host) -> bool:
    return lease.state is State.PENDING or host.netlink.link(lease.claim.host_veth) is None


@contextmanager
def _held_if_free(directory: Path, lease: Lease) -> Iterator[bool]:
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
