"""One pod of this node, tended by a thread of its own from its first sight to its last trace.

Each step looks at what should be (the pod's object), at what is (the runtime), does what is due and says when to look
again. The thread sleeps until then, or until the runtime or the API has news.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from dataplane.errors import DataplaneError
from kube.backoff import Backoff
from kube.objects import Pod
from pods import status
from pods.container import RunningContainer
from pods.publisher import PodKey, Publisher
from pods.record import SandboxRecord
from pods.runtime import Runtime, RuntimeFailed
from pods.status import Observed, Waiting

log = structlog.get_logger(__name__)

_BACKOFF: Final = Backoff(first=0.2, longest=5.0)
_FORGOTTEN_GRACE: Final = 2.0  # seconds for a pod whose object is gone, so that nothing says how long it wants
_LONGEST_SLEEP: Final = 3600.0  # a lock cannot wait for longer than 292 years; a grace period or a delay may
_FINISHED: Final = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PodHost:
    """The node as its pods see it. For `stale` seconds an object from the API may be older than what was said last."""

    addresses: tuple[str, ...]
    runtime: Runtime
    publisher: Publisher
    stale: float = 2.0


class PodWorker:
    """The thread of one pod. `update` gives it the newest object, None when there is no such pod any more."""

    def __init__(
        self, key: PodKey, host: PodHost, *, record: SandboxRecord | None, on_end: Callable[[PodKey], None]
    ) -> None:
        self._key = key
        self._host = host
        self._record = record
        self._is_adopted = record is not None
        self._on_end = on_end
        self._pod: Pod | None = None
        self._containers: dict[str, RunningContainer] = {}
        self._trouble: Waiting | None = None
        self._failures = 0
        self._said: Mapping[str, Any] = {}
        self._said_at = 0.0
        self._corrected: Pod | None = None  # the object from the API that was found wrong last
        self._kill_at: float | None = None
        self._stopping = False
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pod-{key.name}", daemon=True)

    def start(self, pod: Pod | None) -> None:
        self._pod = pod
        self._thread.start()

    def update(self, pod: Pod | None) -> None:
        self._pod = pod
        self.wake()

    def wake(self) -> None:
        """Look again: something may have changed."""
        self._news.set()

    def stop(self) -> None:
        """End the thread and leave the pod running."""
        self._stopping = True
        self.wake()
        self._thread.join()

    def _run(self) -> None:
        structlog.contextvars.bind_contextvars(pod=f"{self._key.namespace}/{self._key.name}")
        gone = False
        while not gone and not self._stopping:
            # Before the step: what comes while it looks makes it look once more.
            self._news.clear()
            try:
                gone = self._step()
            except Exception as error:  # noqa: BLE001 - the thread's edge: nobody else tends or ends this pod
                self._sleep(self._after_failure(error))
        if gone:
            self._on_end(self._key)

    def _after_failure(self, error: Exception) -> float:
        self._failures += 1
        delay = _BACKOFF.delay(self._failures)
        expected = isinstance(error, RuntimeFailed | DataplaneError | OSError)
        log.warning(
            "pod needs another try", error=str(error), after=round(delay, 2), exc_info=None if expected else error
        )
        self._trouble = Waiting(reason=status.CREATING, message=str(error))
        if (pod := self._pod) is not None:
            self._publish(pod)
        return delay

    def _step(self) -> bool:
        """Do what is due and sleep until more is; say whether nothing of the pod is left."""
        pod = self._pod
        now = time.monotonic()
        if pod is None or pod.metadata.deletion_timestamp is not None:
            return self._terminate(pod, now)
        moments = [self._keep_running(pod, now)]
        self._failures = 0
        self._trouble = None
        if self._record is not None:
            moments.append(self._publish(pod))
        look_at = min((moment for moment in moments if moment is not None), default=None)
        self._sleep(None if look_at is None else look_at - time.monotonic())
        return False

    # --- running

    def _keep_running(self, pod: Pod, now: float) -> float | None:
        """Do what is due for a pod that should run; return the moment to look again."""
        self._adopt(pod)
        self._look(now)
        if self._record is None:
            if pod.status.phase in _FINISHED:
                return None
            self._record = self._host.runtime.make(pod)
            log.info("sandbox made", address=self._record.address, netns=self._record.netns)
        if self._record.released:
            return None
        record = self._tend_containers(pod, self._record, now)
        if status.phase(pod, record) in _FINISHED:
            self._record = self._host.runtime.release(record)
            return None
        moments = [moment for each in self._each(pod) if (moment := each.next_look(pod, record)) is not None]
        return min(moments, default=None)

    def _adopt(self, pod: Pod) -> None:
        """Take over an earlier runner's sandbox if it is whole; else remove it, so that a new one is made."""
        record = self._record
        if not self._is_adopted or record is None:
            return
        adopted = self._host.runtime.adopt(record)
        if adopted is not None and adopted.released and status.phase(pod, adopted) not in _FINISHED:
            adopted = None
        if adopted is None:
            self._lose(record)
        else:
            self._adopt_containers(pod, adopted)
            self._record = adopted
            log.info("sandbox adopted", address=record.address, netns=record.netns)
        self._is_adopted = False

    def _adopt_containers(self, pod: Pod, record: SandboxRecord) -> None:
        ready = status.found_ready(pod, record)
        self._containers = {
            each.name: RunningContainer(each, self._host.runtime, was_ready=each.name in ready)
            for each in pod.spec.containers or ()
        }

    def _look(self, now: float) -> None:
        """Account for what ended since the last look."""
        record = self._record
        if record is None or record.released:
            return
        seen = self._host.runtime.look(record)
        if seen is None:
            self._lose(record)
            return
        for before in record.running:
            after = seen.container(before.name)
            if not after.running and before.name in self._containers:
                self._containers[before.name].note_end(after, now)
        self._keep(seen)

    def _lose(self, record: SandboxRecord) -> None:
        log.info("sandbox lost", address=record.address, netns=record.netns)
        self._host.runtime.remove(record)
        self._record = None
        self._containers = {}

    def _keep(self, record: SandboxRecord) -> None:
        if record != self._record:
            self._host.runtime.remember(record)
            self._record = record

    def _tend_containers(self, pod: Pod, record: SandboxRecord, now: float) -> SandboxRecord:
        for container in self._each(pod):
            record = container.tend(pod, record, now)
            self._keep(record)
        return record

    def _each(self, pod: Pod) -> tuple[RunningContainer, ...]:
        for container in pod.spec.containers or ():
            if container.name not in self._containers:
                self._containers[container.name] = RunningContainer(container, self._host.runtime)
        return tuple(self._containers.values())

    # --- telling

    def _publish(self, pod: Pod) -> float | None:
        """Tell the API what is new, or what it has wrong; return when to compare again."""
        now = time.monotonic()
        rendered = self._render(pod)
        if rendered != self._said:
            self._say(rendered, now)
        elif pod is not self._corrected and not status.is_told(rendered, pod):
            # An object that was on its way when this was said will be followed by a newer one.
            if now < self._said_at + self._host.stale:
                return self._said_at + self._host.stale
            self._corrected = pod
            log.info("the API has another status; telling it again")
            self._say(rendered, now)
        return None

    def _say(self, rendered: Mapping[str, Any], now: float) -> None:
        self._said, self._said_at = rendered, now
        self._host.publisher.status(self._key, rendered)

    def _render(self, pod: Pod) -> Mapping[str, Any]:
        containers = pod.spec.containers or ()
        observed = Observed(
            record=self._record,
            ready=frozenset(name for name, container in self._containers.items() if container.is_ready),
            waiting={each.name: why for each in containers if (why := self._waiting_of(each.name)) is not None},
            host_ips=self._host.addresses,
        )
        return status.render(pod, observed, before=self._said or status.told(pod), now=datetime.now(UTC))

    def _waiting_of(self, container: str) -> Waiting | None:
        known = self._containers.get(container)
        return self._trouble or (known.waiting if known is not None else None)

    # --- ending

    def _terminate(self, pod: Pod | None, now: float) -> bool:
        """SIGTERM, wait, then remove everything; say whether that is done."""
        record = self._record
        if record is not None and not record.released and self._is_still_ending(record, pod, now):
            return False
        if record is not None:
            self._host.runtime.remove(record)
            self._record = None
            log.info("sandbox removed", address=record.address, netns=record.netns)
        self._host.runtime.clear(self._key.uid)
        if pod is None:
            self._host.publisher.forget(self._key)
        else:
            self._host.publisher.gone(self._key)
        return True

    def _is_still_ending(self, record: SandboxRecord, pod: Pod | None, now: float) -> bool:
        """Ask the containers to end; give them the time they have; say whether that goes on."""
        grace = _grace(pod)
        if self._kill_at is None:
            log.info("pod ends", grace=grace)
            self._host.runtime.ask_to_end(record, grace)
        # A second, more impatient deletion shortens the wait.
        self._kill_at = min(self._kill_at or float("inf"), now + grace)
        seen = self._host.runtime.look(record)
        if now >= self._kill_at or seen is None or not seen.running:
            return False
        self._sleep(self._kill_at - now)
        return True

    def _sleep(self, seconds: float | None) -> None:
        self._news.wait(None if seconds is None else max(0.0, min(seconds, _LONGEST_SLEEP)))


def _grace(pod: Pod | None) -> float:
    if pod is None or pod.metadata.deletion_grace_period_seconds is None:
        return _FORGOTTEN_GRACE
    return float(pod.metadata.deletion_grace_period_seconds)
