"""Notices what changed in a runtime by looking at all of it, again and again.

CRI's own events came with containerd 1.7; older ones can only be asked. One look is two short lists, whatever the
number of pods, and an end is noticed after half a period on average.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from pods.cri import configs
from pods.cri.client import CriClient, CriError

log = structlog.get_logger(__name__)

_PERIOD: Final = 0.5  # seconds

Picture = Mapping[str, frozenset[tuple[str, int]]]
"""By pod: the ids of sandboxes and containers with their states."""


class Changes:
    """Tells the uids of pods whose sandboxes or containers are not what they were, from its own thread."""

    def __init__(self, client: CriClient, labels: Mapping[str, str], tell: Callable[[str], None]) -> None:
        self._client = client
        self._labels = labels
        self._tell = tell
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="changes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        before: Picture = {}
        answers = True
        while not self._stop.wait(_PERIOD):
            try:
                now = self._look()
            except CriError as error:
                if answers:
                    log.warning("the runtime does not answer", error=str(error))
                answers = False
                continue
            if not answers:
                log.info("the runtime answers again")
            answers = True
            for uid in changed(before, now):
                self._tell(uid)
            before = now

    def _look(self) -> Picture:
        found: dict[str, set[tuple[str, int]]] = {}
        for sandbox in self._client.sandboxes(self._labels):
            found.setdefault(sandbox.labels[configs.UID], set()).add((sandbox.id, sandbox.state))
        for container in self._client.containers(self._labels):
            found.setdefault(container.labels[configs.UID], set()).add((container.id, container.state))
        return {uid: frozenset(some) for uid, some in found.items()}


def changed(before: Picture, now: Picture) -> frozenset[str]:
    """Return the pods that are in only one of the pictures, or differ."""
    return frozenset(uid for uid in before.keys() | now.keys() if before.get(uid) != now.get(uid))
