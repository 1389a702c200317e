"""Events on the objects the proxy has trouble with, for who reads `kubectl describe service`.

Telling never holds up a round: it is left to a thread of its own. The same is told once in ten minutes however often it
is found, and no more than a few a minute in all: the API server must not suffer from a thousand bad objects. Creating
events is all the permission it takes.
"""

import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import structlog

from kube.backoff import Backoff
from kube.errors import ApiError, Unreachable
from kube.http import Client
from kube.resources import EVENTS, ResourceType

log = structlog.get_logger(__name__)

COMPONENT: Final = "podwire-proxy"
SAME_SECONDS: Final = 600.0
BURST: Final = 25  # client-go's
REFILL_SECONDS: Final = 10.0
_REMEMBERED_MAX: Final = 4096
_QUEUED_MAX: Final = 256
_ATTEMPTS_MAX: Final = 12  # client-go's
_BACKOFF: Final = Backoff(first=1.0, longest=30.0)
_MESSAGE_MAX: Final = 1024  # core/v1 validation
_STOP_SECONDS: Final = 2.0


class About(NamedTuple):
    """The object an event is about; without a namespace, `default` holds its events."""

    resource: ResourceType
    namespace: str
    name: str
    uid: str = ""


class Event(NamedTuple):
    about: About
    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Warning"


class Limit:
    """Whether an event is to be told now. Pure: the time is an argument."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, ...], float] = {}
        self._tokens = float(BURST)
        self._counted = 0.0

    def admits(self, event: Event, now: float) -> bool:
        about = event.about
        what = (about.resource.kind, about.namespace, about.name, event.reason, event.message)
        if now - self._told.get(what, -SAME_SECONDS) < SAME_SECONDS:
            return False
        self._tokens = min(BURST, self._tokens + (now - self._counted) / REFILL_SECONDS)
        self._counted = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        self._remember(what, now)
        return True

    def _remember(self, what: tuple[str, ...], now: float) -> None:
        self._told.pop(what, None)
        self._told[what] = now  # at the end: the first is the oldest
        if len(self._told) > _REMEMBERED_MAX:
            del self._told[next(iter(self._told))]


class Recorder:
    """Creates events from `start` to `stop`; `record` may be called from any thread, at any time."""

    def __init__(self, client: Client, *, node: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self.node = node
        self._clock = clock
        self._limit = Limit()
        self._lock = threading.Lock()
        self._queue: queue.Queue[Event | None] = queue.Queue(_QUEUED_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._put(None)
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def record(self, event: Event) -> None:
        """Tell, unless it was told lately or there is too much to tell."""
        with self._lock:
            is_admitted = self._limit.admits(event, self._clock())
        if is_admitted:
            self._put(event)

    def _put(self, event: Event | None) -> None:
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            log.debug("an event is not told: too many wait", reason=event.reason if event else "")

    def _run(self) -> None:
        while not self._stopping.is_set():
            event = self._queue.get()
            if event is not None:
                self._send(event)

    def _send(self, event: Event) -> None:
        body = to_object(event, node=self.node, now=datetime.now(UTC), name_suffix=f"{time.time_ns():x}")
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            try:
                self._client.create(EVENTS, body, body["metadata"]["namespace"])
            except Unreachable:
                if self._stopping.wait(_BACKOFF.delay(attempt)):
                    return
            except ApiError as error:
                log.warning("an event was refused", about=event.about.name, reason=event.reason, error=str(error))
                return
            else:
                return


def to_object(event: Event, *, node: str, now: datetime, name_suffix: str) -> dict[str, Any]:
    """The core/v1 Event to create."""
    about, moment = event.about, now.strftime("%Y-%m-%dT%H:%M:%SZ")
    namespace = about.namespace or "default"
    involved = {
        "apiVersion": about.resource.api_version,
        "kind": about.resource.kind,
        "namespace": about.namespace,
        "name": about.name,
        "uid": about.uid,
    }
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {"name": f"{about.name[:200]}.{name_suffix}", "namespace": namespace},
        "involvedObject": {key: value for key, value in involved.items() if value},
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:_MESSAGE_MAX],
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
