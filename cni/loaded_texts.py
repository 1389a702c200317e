"""nft texts that need not be loaded again, because what they made still stands as they made it.

Loading the few lines that masquerade a network takes longer than wiring a pod. As long as nobody has changed the
ruleset, which its generation tells, they stand; else a look at their chain and their set tells.
"""

import threading

from dataplane.errors import NotFound
from dataplane.nft.interface import Nft
from dataplane.nft.objects import Table

Made = tuple[object, object]


class LoadedTexts:
    """Of one network namespace, shared by the threads that load there."""

    def __init__(self, *, chain: str, set_name: str) -> None:
        self._chain, self._set = chain, set_name
        self._lock = threading.Lock()
        self._texts: dict[Table, frozenset[str]] = {}
        self._made: dict[Table, Made | None] = {}
        self._generations: dict[Table, int] = {}

    def load(self, nft: Nft, text: str) -> None:
        """Load a text that takes nothing away from other texts, unless it stands already. Raises LoadFailed."""
        with self._lock:
            generation = nft.generation()
            if not self._stands(nft, generation):
                self._texts[nft.table] = frozenset()
            if text not in self._texts[nft.table]:
                nft.load(text)
                self._texts[nft.table] |= {text}
                self._made[nft.table] = self._look(nft)
            # Whoever changes the ruleset from here on makes it another number.
            self._generations[nft.table] = generation

    def _stands(self, nft: Nft, generation: int) -> bool:
        if nft.table not in self._texts:
            return False
        if self._generations[nft.table] == generation:
            return True
        made = self._made[nft.table]
        return made is not None and made == self._look(nft)

    def _look(self, nft: Nft) -> Made | None:
        """The rules with their handles, which no other rules ever get, and the elements."""
        try:
            rules, elements = nft.rules(self._chain), frozenset(nft.elements(self._set))
        except NotFound:
            return None
        return (rules, elements) if rules else None
