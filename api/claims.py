"""Which values are taken, and by which object: the memory of the claims in the store.

A claim is a key of its own, `/claims/POOL/VALUE`, whose value is the key of the object that holds it. A commit that
takes one guards on the key's absence; that guard, and not this index, makes values unique. The index answers quickly
what to propose next, and what an object holds and so gives back.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from api.model import Claim
from api.store.store import Event

PREFIX: Final = "/claims/"


def key_of(claim: Claim) -> str:
    return f"{PREFIX}{claim.pool}/{claim.value}"


def claim_of(key: str) -> Claim:
    pool, _, value = key.removeprefix(PREFIX).partition("/")
    return Claim(pool=pool, value=value)


@dataclass(slots=True)
class ClaimIndex:
    """Follows the store's events; safe to read from any thread."""

    _pools: dict[str, dict[str, str]] = field(default_factory=dict)
    _held: dict[str, dict[Claim, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def apply(self, event: Event) -> None:
        claim = claim_of(event.key)
        with self._lock:
            owners = self._pools.setdefault(claim.pool, {})
            if (former := owners.pop(claim.value, None)) is not None:
                self._release(claim, former)
            if event.value is not None:
                owner = event.value.decode()
                owners[claim.value] = owner
                self._held.setdefault(owner, {})[claim] = event.revision

    def taken(self, pool: str) -> frozenset[str]:
        """Values of the pool that somebody holds."""
        with self._lock:
            return frozenset(self._pools.get(pool, ()))

    def revision(self, claim: Claim) -> int:
        """When the claim was taken; of one that nobody holds a number that no claim has."""
        with self._lock:
            owner = self._pools.get(claim.pool, {}).get(claim.value)
            return self._held[owner][claim] if owner is not None else -1

    def held_by(self, owner: str) -> Mapping[Claim, int]:
        """What the object under this key holds, and the revision of each claim."""
        with self._lock:
            return MappingProxyType(dict(self._held.get(owner, {})))

    def _release(self, claim: Claim, owner: str) -> None:
        held = self._held[owner]
        del held[claim]
        if not held:
            del self._held[owner]
