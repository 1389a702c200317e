"""nft texts that need not be loaded again: nothing in the ruleset has changed since they were.

Loading the few lines that masquerade a network takes longer than wiring a pod. Every transaction of anybody changes the
ruleset's generation, so as long as it is the one after our own load, what was loaded still stands.
"""

import threading

from dataplane.nft.interface import Nft


class LoadedTexts:
    """Of one network namespace, shared by the threads that load there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: frozenset[str] = frozenset()
        self._generation = 0

    def load(self, nft: Nft, text: str) -> None:
        """Load a text that takes nothing away from other texts, unless it stands already. Raises LoadFailed."""
        with self._lock:
            before = nft.generation()
            kept = self._texts if before == self._generation else frozenset()
            if text in kept:
                return
            nft.load(text)
            after = nft.generation()
            # Any other number: somebody else has changed the ruleset meanwhile.
            self._texts = kept | {text} if after == before + 1 else frozenset()
            self._generation = after
