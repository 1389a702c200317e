"""A thread that keeps a Cache equal to a collection on the server, whatever becomes of either.

Client.list, Client.watch ──bytes──► Reflector ──changes──► Cache ──(old, new)──► subscribers
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

import structlog

from kube.cache import Cache
from kube.errors import ApiError, Unreachable
from kube.events import EventDecoder, HasMetadata, Unreadable
from kube.http import Client
from kube.reflector import ListRequest, Moment, Reflector, Wait, WatchRequest
from kube.resources import ResourceType
from kube.selectors import FieldSelector, LabelSelector
from kube.transport import LineStream

log = structlog.get_logger(__name__)

# How long `stop` waits for the thread. A connection attempt cannot be interrupted; the thread, a daemon, ends after it.
_STOP_SECONDS: Final = 1.0

T = TypeVar("T", bound=HasMetadata)


class Informer(Generic[T]):
    """List and watch one collection from `start` to `stop`. `cache.synced` says when it is complete."""

    def __init__(
        self,
        client: Client,
        resource: ResourceType,
        decode_type: type[T],
        *,
        namespace: str | None = None,
        label_selector: LabelSelector | str | None = None,
        field_selector: FieldSelector | str | None = None,
    ) -> None:
        self.cache: Cache[T] = Cache()
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._log = log.bind(resource=resource.plural)
        self._reflector = Reflector(EventDecoder(decode_type, self._on_unreadable))
        self._tell_unreadable: Callable[[Unreadable], None] | None = None
        self._stopped = threading.Event()
        self._stream: LineStream | None = None
        self._thread = threading.Thread(target=self._run, name=f"informer-{resource.plural}", daemon=True)

    def on_unreadable(self, callback: Callable[[Unreadable], None]) -> None:
        """Call back for each object that is skipped, whenever it comes. To be said before `start`."""
        self._tell_unreadable = callback

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the cache stays readable. May be called more than once, and before `start`."""
        self._stopped.set()
        if (stream := self._stream) is not None:
            stream.stop()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._step()
            except (ApiError, Unreachable) as error:
                self._reflector.on_failure(error, _moment())
            except Exception as error:  # noqa: BLE001 - the loop's edge: a subscriber's defect must not end the copy
                self._log.error("following the collection failed", exc_info=error)
                self._reflector.on_failure(error, _moment())

    def _step(self) -> None:
        match self._reflector.next(_moment()):
            case Wait(seconds, reason):
                self._wait(seconds, reason)
            case ListRequest(query):
                self._list(query)
            case WatchRequest(query):
                self._watch(query)

    def _wait(self, seconds: float, reason: Exception | None) -> None:
        failures = self._reflector.failures
        # The first, second, fourth, eighth … failure: an outage of hours is a dozen lines.
        write = self._log.warning if failures & (failures - 1) == 0 else self._log.debug
        write(
            "the collection cannot be followed; trying again",
            reason=str(reason or "the watch ended at once"),
            failures=failures,
            seconds=round(seconds, 2),
        )
        self._stopped.wait(seconds)

    def _list(self, query: Mapping[str, str]) -> None:
        body = self._client.list(
            self._resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            query=query,
        )
        collection = self._reflector.on_page(body, _moment())
        if collection is not None and not self._stopped.is_set():
            self.cache.replace(collection)
            self._log.info("listed", objects=len(collection.objects), unreadable=len(collection.unreadable))

    def _watch(self, query: Mapping[str, str]) -> None:
        asked = _moment()
        with contextlib.closing(self._open_watch(query, asked)) as stream:
            # `stop` sets the flag before it looks for a stream: one of the two sees the other.
            self._stream = stream
            if failures := self._reflector.failures:
                self._log.info("following again", failures=failures)
            self._reflector.on_open(asked)
            if not self._stopped.is_set():
                self._follow(stream)
            self._stream = None

    def _open_watch(self, query: Mapping[str, str], asked: Moment) -> LineStream:
        try:
            return self._client.watch(
                self._resource,
                self._namespace,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
                query=query,
            )
        except Unreachable as error:
            if error.connected:
                # A server, or a proxy before it, may hold the answer back until there is a first event.
                self._reflector.on_open(asked)
            raise

    def _follow(self, stream: LineStream) -> None:
        for line in stream:
            change = self._reflector.on_line(line, _moment())
            if self._stopped.is_set() or not self._reflector.watching:
                return
            if change is not None:
                self.cache.apply(change)
        self._reflector.on_end(_moment())

    def _on_unreadable(self, unreadable: Unreadable) -> None:
        self._log.error("an object was skipped", key=str(unreadable.key or "unknown"), reason=unreadable.reason)
        if self._tell_unreadable:
            self._tell_unreadable(unreadable)


def _moment() -> Moment:
    return Moment(time.monotonic(), random.random())  # noqa: S311 - spreads retries, guards nothing
