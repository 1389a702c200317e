"""The source check of this node's pods, restored when somebody took it away.

Every finished pod of the agent's network has its addresses in the plugin's table of gates. What is missing there is put
back from the leases, whoever removed it: one entry, a rule, or the whole ruleset.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog

from cni import gate, gate_table, leftovers, wiring
from cni.gate import Check, Gate
from cni.host import Host
from dataplane.nft.interface import LoadFailed, Nft
from ipam.lease import Lease, State

log = structlog.get_logger(__name__)

Keys = Mapping[str, frozenset[bytes]]
"""The keys of each of the table's sets."""


def is_missing(wanted: Gate, standing: Keys) -> bool:
    """Whether an element of the gate is not there."""
    return any(
        element.key not in standing.get(name, frozenset())
        for name, elements in wanted.elements().items()
        for element in elements
    )


class Gates:
    """One network's. Each `sync` is one look."""

    def __init__(self, network: str, directory: Path, host: Host) -> None:
        self._network, self._directory, self._host = network, directory, host
        self._are_possible: bool | None = None

    def are_possible(self) -> bool:
        """Whether this kernel has gates; it is asked once. Without them pods are connected all the same."""
        if self._are_possible is None:
            with self._host.gates() as nft:
                self._are_possible = nft.table_exists() or self._is_loaded(nft)
        return self._are_possible

    def _is_loaded(self, nft: Nft) -> bool:
        try:
            nft.load(gate.render())
        except LoadFailed as error:
            log.warning("this kernel cannot check or limit what pods send", needs=gate.NEEDS, reason=str(error))
            return False
        return True

    def sync(self) -> None:
        """Put back what is missing. Raises what the kernel or the lease file refuses."""
        with self._host.leases(self._directory) as leases:
            pods = [
                lease for lease in leases.of(self._network) if lease.state is State.ACTIVE and lease.claim.host_veth
            ]
        if not pods or not self.are_possible():
            return
        with self._host.gates() as nft:
            if not gate_table.is_whole(nft):
                nft.load(gate.render())
                log.info("table of gates loaded", table=str(nft.table))
            self._restore(nft, pods)

    def _restore(self, nft: Nft, pods: Iterable[Lease]) -> None:
        standing = {name: frozenset(one.key for one in elements) for name, elements in gate_table.standing(nft).items()}
        for lease in pods:
            wanted = wiring.gate(lease, Check.SOURCE)
            if is_missing(wanted, standing) and self._put_back(nft, lease, wanted):
                log.info("source check restored", pod=lease.claim.owner, veth=wanted.veth)

    def _put_back(self, nft: Nft, lease: Lease, wanted: Gate) -> bool:
        with leftovers.held_if_free(self._directory, lease) as is_held, self._host.leases(self._directory) as leases:
            # The call that holds it may be taking the pod apart, or just has.
            if not is_held or leases.find(lease.claim.attachment) != lease:
                return False
            gate_table.restore(nft, wanted)
            return True
