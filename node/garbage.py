"""The plugin's leases that nobody will ever give back, collected by the agent, because few runtimes ask for it.

A lease is garbage when it looked left over at two observations some time apart: a single look may meet a pod in the
middle of something. The plugin looks once more, with the attachment held, before it takes a lease back. What an earlier
agent or an earlier boot left is taken back at once, by the first round.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import structlog

from cni import leftovers
from cni.host import Host
from ipam.lease import Lease

log = structlog.get_logger(__name__)

PATIENCE_SECONDS: Final = 20.0

Suspicions = Mapping[Lease, float]
"""Since when each lease has looked left over."""


def observe(earlier: Suspicions, suspects: Iterable[Lease], now: float) -> Suspicions:
    """What is suspected after a further look: a lease that has changed, or looked well in between, starts anew."""
    return {lease: earlier.get(lease, now) for lease in suspects}


def stale(suspicions: Suspicions, now: float, patience: float = PATIENCE_SECONDS) -> tuple[Lease, ...]:
    """Those that have been suspected for long enough."""
    return tuple(lease for lease, since in suspicions.items() if now - since >= patience)


class GarbageCollector:
    """One network's. Each `sync` is one observation."""

    def __init__(
        self, network: str, directory: Path, host: Host, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._network, self._directory, self._host, self._clock = network, directory, host, clock
        self._suspicions: Suspicions | None = None

    def sync(self) -> tuple[Lease, ...]:
        """Look once, and take back what is stale. Raises what the kernel or the lease file refuses."""
        freed = self._first() if self._suspicions is None else self._further(self._suspicions)
        if freed:
            log.info("leases without a pod freed", addresses=" ".join(str(lease.address) for lease in freed))
        return freed

    def _first(self) -> tuple[Lease, ...]:
        freed = leftovers.sweep(self._network, self._directory, self._host)
        self._suspicions = {}
        return freed

    def _further(self, earlier: Suspicions) -> tuple[Lease, ...]:
        suspects = leftovers.find(self._network, self._directory, self._host)
        now = self._clock()
        self._suspicions = observe(earlier, suspects, now)
        return leftovers.take_back(stale(self._suspicions, now), self._directory, self._host)
