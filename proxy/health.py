"""Whether the proxy does its work, for whoever restarts it (/livez) or sends traffic here (/healthz).

The rules and bodies are kube-proxy's: unhealthy is who has known of a change for longer than a minute and has not
applied it, of either address family. A single Service that cannot be written is not the proxy's illness. A node that
the autoscaler is about to remove, that is being deleted or is not known is alive but not eligible for traffic.

One difference: until its first round a proxy is alive, for a minute, but /healthz does not call it healthy yet. No load
balancer should send traffic where no Service is served.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import msgspec

from kube import objects
from proxy.http_server import JSON, NOT_FOUND, Answer
from proxy.metrics import Metrics
from proxy.model import Family

LATE_SECONDS: Final = 60.0  # twice kube-proxy's sync period
TO_BE_DELETED: Final = "ToBeDeletedByClusterAutoscaler"
_NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)  # Go's zero time


class FamilyReport(msgspec.Struct, frozen=True, rename="camel"):
    last_updated: datetime
    healthy: bool


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """What a probe gets to read; the field names are kube-proxy's."""

    last_updated: datetime
    current_time: datetime
    node_eligible: bool | msgspec.UnsetType
    healthy: bool
    status: dict[Family, FamilyReport]


@dataclass(slots=True, kw_only=True)
class _Progress:
    """When the oldest change came that waits, and the oldest that the round under way is about."""

    waiting_since: datetime | None = None
    taken_since: datetime | None = None
    updated: datetime | None = None

    def is_late(self, now: datetime) -> bool:
        since = self.taken_since or self.waiting_since
        return since is not None and (now - since).total_seconds() > LATE_SECONDS


class Health:
    """What became of changes. Any thread may tell or ask."""

    def __init__(
        self, families: Iterable[Family] = ("IPv4",), *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._progress = {family: _Progress(waiting_since=clock()) for family in families}
        self._is_node_eligible = False

    def queued(self, family: Family) -> None:
        """A change came."""
        progress = self._progress[family]
        if progress.waiting_since is None:
            with self._lock:
                progress.waiting_since = self._clock()

    def taken(self, family: Family) -> None:
        """A round begins with all that came."""
        with self._lock:
            progress = self._progress[family]
            # A round may be about a change that came in this very moment: it is late if it does not end either.
            progress.taken_since = progress.taken_since or progress.waiting_since or self._clock()
            progress.waiting_since = None

    def applied(self, family: Family) -> None:
        """The round ended well; what came meanwhile still waits."""
        with self._lock:
            progress = self._progress[family]
            progress.taken_since, progress.updated = None, self._clock()

    def failed(self, family: Family) -> None:
        """The round failed as a whole: its changes are still to be applied."""
        with self._lock:
            progress = self._progress[family]
            progress.taken_since = progress.taken_since or self._clock()

    def node_is(self, node: objects.Node | None) -> None:
        """What is known of this node's object."""
        with self._lock:
            self._is_node_eligible = node is not None and is_eligible(node)

    @property
    def is_healthy(self) -> bool:
        return self.readiness().healthy

    def readiness(self) -> Report:
        """Whether traffic should come here."""
        with self._lock:
            is_complete = all(progress.updated for progress in self._progress.values())
            return self._report(node_eligible=self._is_node_eligible, is_complete=is_complete)

    def liveness(self) -> Report:
        """Whether the process should go on."""
        with self._lock:
            return self._report(node_eligible=msgspec.UNSET, is_complete=True)

    def _report(self, *, node_eligible: bool | msgspec.UnsetType, is_complete: bool) -> Report:
        now = self._clock()
        status = {
            family: FamilyReport(progress.updated, not progress.is_late(now))
            for family, progress in self._progress.items()
            if progress.updated
        }
        return Report(
            max((family.last_updated for family in status.values()), default=_NEVER),
            now,
            node_eligible,
            is_complete and not any(progress.is_late(now) for progress in self._progress.values()),
            status,
        )


def is_eligible(node: objects.Node) -> bool:
    """Whether load balancers should still send traffic to this node."""
    return node.metadata.deletion_timestamp is None and all(taint.key != TO_BE_DELETED for taint in node.spec.taints)


class HealthPages:
    """/healthz and /livez."""

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics

    def __call__(self, path: str) -> Answer:
        if path == "/healthz":
            report, asked = self._health.readiness(), self._metrics.healthz
        elif path == "/livez":
            report, asked = self._health.liveness(), self._metrics.livez
        else:
            return NOT_FOUND
        is_well = report.healthy and report.node_eligible is not False
        status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
        asked.labels(code=str(status.value)).inc()
        # Once it was the time of the last round, changes or none: whoever is well is up to date now.
        shown = msgspec.structs.replace(report, last_updated=report.current_time) if is_well else report
        return Answer(status, msgspec.json.encode(shown), JSON)
