"""A pod's namespace from its making to its removal, wired and unwired by the node's CNI plugin.

The order is a runtime's: write down the intent, make the namespace, execute ADD; and back: end what runs inside,
execute DEL, remove the namespace, forget. Removal may start from any half of that and be repeated.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from dataplane import netns
from dataplane.errors import DataplaneError, NotFound
from dataplane.netlink.linux import LinuxNetlink
from kube.objects import Pod
from lab import processes, topology
from lab.runner.records import Records
from pods.record import SandboxRecord
from pods.runtime import RuntimeFailed


class Network(Protocol):
    """What wires a sandbox. All three raise NetworkError with the plugin's own words."""

    def attach(self, record: SandboxRecord) -> tuple[str, ...]:
        """Wire the namespace; return the pod's addresses."""
        ...

    def detach(self, record: SandboxRecord) -> None: ...

    def check(self, record: SandboxRecord) -> None:
        """Raise unless the namespace is still wired as `attach` left it."""
        ...


class NetworkError(RuntimeFailed):
    """The network plugin refused, or there is none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandboxes:
    """The sandboxes of one node. `prefix` begins the names of their namespaces."""

    prefix: str
    records: Records
    network: Network

    def make(self, pod: Pod) -> SandboxRecord:
        """Make and wire a namespace for a pod. What is half made when it fails is taken down, now or before the next."""
        if pod.spec.host_network:
            raise NetworkError("hostNetwork=true: a lab gives every pod a network of its own; leave it out")
        self.clear(pod.metadata.uid)
        sandbox_id = secrets.token_hex(32)
        record = SandboxRecord(
            uid=pod.metadata.uid,
            namespace=pod.metadata.namespace,
            name=pod.metadata.name,
            sandbox_id=sandbox_id,
            netns=f"{self.prefix}-{pod.metadata.name[:40]}-{sandbox_id[:8]}",
            boot_id=netns.boot_id(),
            made_at=datetime.now(UTC),
        )
        self.records.write(record)
        try:
            return self._wire(record)
        except (DataplaneError, NetworkError, OSError):
            self.remove(record)
            raise

    def _wire(self, record: SandboxRecord) -> SandboxRecord:
        netns.create(record.netns)
        with netns.open_netns(topology.path_of(record.netns)) as target:
            netlink = LinuxNetlink(netns_fd=target.fd)
            netlink.set_up("lo")
            netlink.close()
        wired = msgspec.structs.replace(record, addresses=self.network.attach(record))
        self.records.write(wired)
        return wired

    def is_intact(self, record: SandboxRecord) -> bool:
        """Say whether an earlier runner's sandbox is whole: same boot, namespace there, and wired as it was."""
        if record.released:
            return True
        if not record.addresses or record.boot_id != netns.boot_id():
            return False
        try:
            netns.open_netns(topology.path_of(record.netns)).close()
            self.network.check(record)
        except (NotFound, NetworkError):
            return False
        return True

    def release(self, record: SandboxRecord) -> SandboxRecord:
        """Give back the namespace and the lease, keep the record. Raises NetworkError; may be repeated."""
        if record.boot_id == netns.boot_id():
            # Never our own: that would be the node.
            inside = topology.identities((record.netns,)) - {netns.current_identity()}
            processes.kill(processes.in_namespaces(inside))
        self.network.detach(record)
        netns.delete(record.netns)
        released = msgspec.structs.replace(record, released=True)
        self.records.write(released)
        return released

    def clear(self, uid: str) -> None:
        """Give back what a failed `make` could not: its record would be the last trace of it. Raises NetworkError."""
        if (left := self.records.find(uid)) is not None:
            self.remove(left)

    def remove(self, record: SandboxRecord) -> None:
        """Give back everything. Raises NetworkError; may be repeated."""
        if not record.released:
            self.release(record)
        self.records.remove(record.uid)
