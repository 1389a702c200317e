"""What one write of an object means for the store: pure, so that atomicity is decided in one readable place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from api import claims
from api.model import Admission, Claim
from api.selection import Kept
from api.store.store import Guard, Write
from api.watch.topic import Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Guards and writes of one transaction."""

    guards: Sequence[Guard]
    writes: Sequence[Write]


def put(
    topic: Topic,
    key: str,
    old: Kept | None,
    admission: Admission,
    *,
    held: Mapping[Claim, int],
    guards: Sequence[Guard],
) -> Commit:
    """Write the object with exactly the claims it now holds: new ones must be free, those let go are freed."""
    taken = admission.claims - held.keys()
    freed = held.keys() - admission.claims
    return Commit(
        guards=[
            _unchanged(key, old),
            *guards,
            *(Guard(key=claims.key_of(claim), revision=0) for claim in sorted(taken, key=claims.key_of)),
            *(Guard(key=claims.key_of(claim), revision=held[claim]) for claim in freed),
        ],
        writes=[
            Write(key=key, value=topic.codec.dump(admission.obj)),
            *(Write(key=claims.key_of(claim), value=key.encode()) for claim in taken),
            *(Write(key=claims.key_of(claim), value=None) for claim in freed),
        ],
    )


def remove(key: str, old: Kept, held: Mapping[Claim, int]) -> Commit:
    """Remove the object and free all it holds."""
    return Commit(
        guards=[_unchanged(key, old), *(Guard(key=claims.key_of(claim), revision=held[claim]) for claim in held)],
        writes=[Write(key=key, value=None), *(Write(key=claims.key_of(claim), value=None) for claim in held)],
    )


def _unchanged(key: str, old: Kept | None) -> Guard:
    return Guard(key=key, revision=old.revision if old else 0)
