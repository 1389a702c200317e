"""One write at a time of each kind: an attempt is a commit, repeated when another writer was faster.

Within this process writers of one kind take turns; that only saves them from repeating their work, the guards of the
commit are what makes it right.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import structlog

from api import commits
from api.claims import key_of
from api.model import Admission
from api.selection import Kept
from api.store.store import Entry, Guard, GuardFailed, Store
from api.watch.hub import Hub
from kube.errors import ServiceUnavailable
from kube.resources import ResourceType

log = structlog.get_logger(__name__)
T = TypeVar("T")

# Other servers on the same store can make an attempt fail; so many in a row mean it is overloaded.
_ATTEMPTS: Final = 20


class Writer:
    """The way from an admitted object to the store; the hub has seen a write when it returns."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub
        self._turns: Mapping[ResourceType, threading.Lock] = {kind: threading.Lock() for kind in hub.topics}

    def in_turn(self, resource: ResourceType, name: str, attempt: Callable[[], T]) -> T:
        """Try until no other writer was faster; with one server, that is at once."""
        reason = ""
        for _ in range(_ATTEMPTS):
            with self._turns[resource]:
                try:
                    return attempt()
                except GuardFailed as failed:
                    reason = str(failed)
                    log.debug("raced", resource=resource.plural, name=name, reason=reason)
                    self._hub.catch_up()
        raise ServiceUnavailable(
            f'{resource.plural} "{name}" could not be written {_ATTEMPTS} times in a row: {reason}'
        )

    def put(
        self, resource: ResourceType, kept: Kept | None, admission: Admission, guards: Sequence[Guard], *, dry_run: bool
    ) -> int:
        """Write the object in the place of `kept`, or anew; returns its revision, in a dry run that of `kept`."""
        topic, metadata = self._hub.topics[resource], admission.obj["metadata"]
        key = topic.key(metadata.get("namespace"), metadata["name"])
        claims = self._hub.claims
        relied = [Guard(key=key_of(claim), revision=claims.revision(claim)) for claim in admission.relies_on]
        put = commits.put(topic, key, kept, admission, held=claims.held_by(key), guards=[*guards, *relied])
        topic.keep(Entry(key=key, value=put.writes[0].value or b"", revision=0))
        if dry_run:
            return kept.revision if kept else 0
        return self._commit(put)

    def remove(self, resource: ResourceType, kept: Kept) -> None:
        key = self._hub.topics[resource].key(kept.namespace, kept.name)
        self._commit(commits.remove(key, kept, self._hub.claims.held_by(key)))

    def _commit(self, commit: commits.Commit) -> int:
        revision = self._store.commit(commit.guards, commit.writes)
        self._hub.catch_up()
        return revision
