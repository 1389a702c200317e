"""Chains nothing of ours leads to any more, until they are deleted.

Somebody else's rule may lead to one: it stays, costs nobody else a round, and is tried less and less often.
"""

import errno
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from dataplane.nft.interface import Nft, TransactionFailed
from dataplane.nft.objects import DeleteChain
from kube.backoff import Backoff

_BACKOFF: Final = Backoff(first=1.0, longest=600.0)


class StaleChains:
    """The emptied chains of one table."""

    def __init__(self, nft: Nft, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._nft = nft
        self._clock = clock
        self._names: set[str] = set()
        self._refusals: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self.failures = 0
        """How often the kernel refused to delete one, so far."""

    def add(self, chains: Iterable[str]) -> None:
        self._names |= set(chains)

    def discard(self, chains: Iterable[str]) -> None:
        """These are in use again, or gone."""
        for chain in chains:
            self._names.discard(chain)
            self._refusals.pop(chain, None)
            self._due.pop(chain, None)

    def reset(self, chains: Iterable[str] = ()) -> None:
        """All that is known is wrong; these are the stale ones."""
        self.discard(tuple(self._names))
        self.add(chains)

    @property
    def wait(self) -> float | None:
        """Seconds until there is one to try; None if there is none."""
        if not self._names:
            return None
        # A chain that was not tried yet: before Linux 6.2 it is referred to for a moment after the last reference went.
        waits = (max(self._due[name] - self._clock(), 0.1) if name in self._due else 1.0 for name in self._names)
        return min(waits)

    def sweep(self) -> None:
        """Delete those that are due; what does not go yet stays for another time."""
        now = self._clock()
        # Backwards: sticky-… leads to kept.
        chains = sorted((name for name in self._names if self._due.get(name, now) <= now), reverse=True)
        try:
            self._delete(chains)
        except TransactionFailed:
            for chain in chains:
                self._delete_if_possible(chain)

    def _delete_if_possible(self, chain: str) -> None:
        try:
            self._delete([chain])
        except TransactionFailed as error:
            if error.code == errno.ENOENT:
                self.discard([chain])
                return
            self.failures += 1
            self._refusals[chain] = self._refusals.get(chain, 0) + 1
            self._due[chain] = self._clock() + _BACKOFF.delay(self._refusals[chain])

    def _delete(self, chains: Sequence[str]) -> None:
        if chains:
            self._nft.commit([DeleteChain(chain) for chain in chains])
            self.discard(chains)
