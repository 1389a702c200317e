"""How long it takes from a change of endpoints until this node follows it, from the time the change's author noted.

EndpointSlices carry the time of the change that made them what they are: of a pod that became ready, say. What was
changed before this proxy started says nothing about it.
"""

import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache
from typing import Final

from prometheus_client import Histogram

from kube import objects
from proxy import model
from proxy.model import ServiceName

TRIGGER_TIME: Final = "endpoints.kubernetes.io/last-change-trigger-time"


class ProgrammingLatency:
    """Of one address family. Changes come from any thread, rounds from one."""

    def __init__(self, histogram: Histogram, *, clock: Callable[[], float] = time.time) -> None:
        self._histogram = histogram
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._waiting: dict[ServiceName, list[float]] = {}
        self._taken: dict[ServiceName, list[float]] = {}

    def on_endpoint_slice(self, old: objects.EndpointSlice | None, new: objects.EndpointSlice | None) -> None:
        moment = _trigger_time(new) if new else None
        if new is None or moment is None or moment < self._started or (old and _trigger_time(old) == moment):
            return
        owner = model.slice_owner(new)
        if owner is None:
            return
        with self._lock:
            self._waiting.setdefault(owner, []).append(moment)

    def taken(self, names: Iterable[ServiceName]) -> None:
        """A round begins that is about these Services."""
        with self._lock:
            for name in names:
                if moments := self._waiting.pop(name, None):
                    self._taken.setdefault(name, []).extend(moments)

    def applied(self, names: Iterable[ServiceName]) -> None:
        """The round succeeded for these; those of the others go into the next one they are in."""
        now = self._clock()
        for name in names:
            for moment in self._taken.pop(name, ()):
                self._histogram.observe(max(now - moment, 0.0))


def _trigger_time(endpoint_slice: objects.EndpointSlice) -> float | None:
    annotations = endpoint_slice.metadata.annotations
    return _moment(annotations[TRIGGER_TIME]) if annotations and TRIGGER_TIME in annotations else None


@lru_cache(maxsize=16)  # each family asks for itself
def _moment(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else None
