"""What becomes of changes, told to health and metrics: when they come, when a round takes them, how it ends."""

import time
from collections.abc import Callable

from kube.control import SyncFailed
from proxy.health import Health
from proxy.metrics import Metrics
from proxy.model import Family, ServiceName
from proxy.sync import RESYNC


class Rounds:
    """Stands between the control loop and `sync`, for one address family."""

    def __init__(
        self, sync: Callable[[frozenset[ServiceName]], None], health: Health, metrics: Metrics, *, family: Family
    ) -> None:
        self._sync = sync
        self._health = health
        self._family = family
        self._rounds = metrics.rounds.labels(family)
        self._full_rounds = metrics.full_rounds.labels(family)
        self._partial_rounds = metrics.partial_rounds.labels(family)
        self._last_synced = metrics.last_synced.labels(family)
        self._last_queued = metrics.last_queued.labels(family)
        self._failures = metrics.failures.labels(family)
        self._services = metrics.service_changes.labels(family)
        self._endpoints = metrics.endpoint_changes.labels(family)
        self._services_taken = self._endpoints_taken = 0.0
        self._services_seen = self._endpoints_seen = 0
        metrics.service_changes_pending.labels(family).set_function(lambda: self._services_seen - self._services_taken)
        metrics.endpoint_changes_pending.labels(family).set_function(
            lambda: self._endpoints_seen - self._endpoints_taken
        )

    def on_service(self, _old: object, _new: object) -> None:
        self._services_seen += 1
        self._services.inc()
        self._queued()

    def on_endpoint_slice(self, _old: object, _new: object) -> None:
        self._endpoints_seen += 1
        self._endpoints.inc()
        self._queued()

    def sync(self, keys: frozenset[ServiceName]) -> None:
        """Do one round. Raises what it raises."""
        services, endpoints = self._services_seen, self._endpoints_seen
        started = time.monotonic()
        self._health.taken(self._family)
        try:
            self._sync(keys)
        except SyncFailed:
            self._failures.inc()
            self._succeeded(services, endpoints)
            raise
        except Exception:
            self._failures.inc()
            self._health.failed(self._family)
            raise
        finally:
            self._measured(time.monotonic() - started, is_full=RESYNC in keys)
        self._succeeded(services, endpoints)

    def _queued(self) -> None:
        self._health.queued(self._family)
        self._last_queued.set_to_current_time()

    def _succeeded(self, services: int, endpoints: int) -> None:
        self._services_taken, self._endpoints_taken = services, endpoints
        self._health.applied(self._family)
        self._last_synced.set_to_current_time()

    def _measured(self, seconds: float, *, is_full: bool) -> None:
        self._rounds.observe(seconds)
        (self._full_rounds if is_full else self._partial_rounds).observe(seconds)
