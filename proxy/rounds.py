"""What becomes of changes, told to health and metrics: when they come, when a round takes them, how it ends."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from kube.control import SyncFailed
from proxy.health import Health
from proxy.metrics import Metrics
from proxy.model import Family, InvalidService, ServiceName
from proxy.sync import RESYNC


class Syncing(Protocol):
    """What does the rounds, and knows which Services it could not read."""

    @property
    def invalid(self) -> Mapping[ServiceName, InvalidService]: ...

    def sync(self, keys: frozenset[ServiceName]) -> None: ...


class Rounds:
    """Stands between the control loop and `sync`, for one address family. `tell` hears of each Service in trouble."""

    def __init__(
        self,
        syncer: Syncing,
        health: Health,
        metrics: Metrics,
        *,
        family: Family,
        tell: Callable[[ServiceName, Exception], None],
    ) -> None:
        self._syncer = syncer
        self._tell = tell
        self._health = health
        self._family = family
        self._rounds = metrics.rounds.labels(family)
        self._full_rounds = metrics.full_rounds.labels(family)
        self._partial_rounds = metrics.partial_rounds.labels(family)
        self._last_synced = metrics.last_synced.labels(family)
        self._failures = metrics.failures.labels(family)
        self._services = metrics.service_changes.labels(family)
        self._endpoints = metrics.endpoint_changes.labels(family)
        # What comes only counts here, without a lock: at a start the threads that list would wait for each other.
        self._services_seen = self._endpoints_seen = self._services_told = self._endpoints_told = 0
        self._services_taken = self._endpoints_taken = 0
        self._queued_at = 0.0
        metrics.last_queued.labels(family).set_function(lambda: self._queued_at)
        metrics.service_changes_pending.labels(family).set_function(lambda: self._services_seen - self._services_taken)
        metrics.endpoint_changes_pending.labels(family).set_function(
            lambda: self._endpoints_seen - self._endpoints_taken
        )

    def on_service(self, _old: object, _new: object) -> None:
        self._services_seen += 1
        self._queued()

    def on_endpoint_slice(self, _old: object, _new: object) -> None:
        self._endpoints_seen += 1
        self._queued()

    def sync(self, keys: frozenset[ServiceName]) -> None:
        """Do one round. Raises what it raises."""
        services, endpoints = self._services_seen, self._endpoints_seen
        self._count(services, endpoints)
        started = time.monotonic()
        self._health.taken(self._family)
        try:
            self._syncer.sync(keys)
        except SyncFailed as error:
            self._failures.inc()
            self._succeeded(services, endpoints)
            for name, reason in error.failures.items():
                self._tell(name, reason)
            raise
        except Exception:
            self._failures.inc()
            self._health.failed(self._family)
            raise
        finally:
            self._measured(time.monotonic() - started, is_full=RESYNC in keys)
        self._succeeded(services, endpoints)

    def _queued(self) -> None:
        self._queued_at = time.time()
        self._health.queued(self._family)

    def _count(self, services: int, endpoints: int) -> None:
        self._services.inc(services - self._services_told)
        self._endpoints.inc(endpoints - self._endpoints_told)
        self._services_told, self._endpoints_told = services, endpoints

    def _succeeded(self, services: int, endpoints: int) -> None:
        self._services_taken, self._endpoints_taken = services, endpoints
        self._health.applied(self._family)
        for name, error in self._syncer.invalid.items():
            self._tell(name, error)
        self._last_synced.set_to_current_time()

    def _measured(self, seconds: float, *, is_full: bool) -> None:
        self._rounds.observe(seconds)
        (self._full_rounds if is_full else self._partial_rounds).observe(seconds)
