"""One pod of this node, tended by a thread of its own from its first sight to its last trace.

Each step looks at what should be (the pod's object), at what is (record, processes), does what is due and says when to
look again. The thread sleeps until then, or until a process ends or the object changes.
"""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from dataplane.errors import DataplaneError
from kube.backoff import Backoff
from kube.objects import Pod
from lab import processes
from lab.process import Process
from lab.runner import status
from lab.runner.containers import Launcher, RunningContainer
from lab.runner.publisher import PodKey, Publisher
from lab.runner.record import SandboxRecord
from lab.runner.records import Records
from lab.runner.sandboxes import NetworkError, Sandboxes
from lab.runner.status import Observed, Waiting

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(first=0.2, longest=5.0)
_FORGOTTEN_GRACE = 2.0  # seconds for a pod whose object is gone, so that nothing says how long it wants
_LONGEST_SLEEP = 3600.0  # poll(2) takes 24 days at most; a grace period or a probe's delay may be longer
_FINISHED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PodHost:
    """The node as its pods see it."""

    address: str
    sandboxes: Sandboxes
    records: Records
    launcher: Launcher
    publisher: Publisher


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
        self._kill_at: float | None = None
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waking = threading.Lock()  # guards `_ended`: after it nobody may write to `_wake`
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"pod-{key.name}", daemon=True)

    def start(self, pod: Pod | None) -> None:
        self._pod = pod
        self._thread.start()

    def update(self, pod: Pod | None) -> None:
        self._pod = pod
        self._look()

    def stop(self) -> None:
        """End the thread and leave the pod running."""
        self._stopping = True
        self._look()
        self._thread.join()

    def _look(self) -> None:
        with self._waking:
            if not self._ended:
                os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        structlog.contextvars.bind_contextvars(pod=f"{self._key.namespace}/{self._key.name}")
        gone = False
        while not gone and not self._stopping:
            try:
                gone = self._step()
            except Exception as error:  # noqa: BLE001 - the thread's edge: nobody else tends or ends this pod
                self._sleep(self._after_failure(error))
        with self._waking:
            self._ended = True
            os.close(self._wake)
        if gone:
            self._on_end(self._key)

    def _after_failure(self, error: Exception) -> float:
        self._failures += 1
        delay = _BACKOFF.delay(self._failures)
        expected = isinstance(error, NetworkError | DataplaneError | OSError)
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
        look_at = self._keep_running(pod, now)
        self._failures = 0
        self._trouble = None
        if self._record is not None:
            self._publish(pod)
        self._sleep(None if look_at is None else look_at - time.monotonic())
        return False

    # --- running

    def _keep_running(self, pod: Pod, now: float) -> float | None:
        """Do what is due for a pod that should run; return the moment to look again."""
        self._adopt()
        if self._record is None:
            if pod.status.phase in _FINISHED:
                return None
            self._record = self._host.sandboxes.make(pod)
            log.info("sandbox made", address=self._record.address, netns=self._record.netns)
        if self._record.released:
            return None
        record = self._tend_containers(pod, self._record, now)
        if status.phase(pod, record) in _FINISHED:
            self._record = self._host.sandboxes.release(record)
            return None
        moments = [moment for each in self._each(pod) if (moment := each.next_look(pod, record)) is not None]
        return min(moments, default=None)

    def _adopt(self) -> None:
        """Take over an earlier runner's sandbox if it is whole; else remove it, so that a new one is made."""
        record = self._record
        if not self._is_adopted or record is None:
            return
        if self._host.sandboxes.is_intact(record):
            self._record = self._host.launcher.find_processes(record)
            log.info("sandbox adopted", address=record.address, netns=record.netns)
        else:
            log.info("sandbox lost", address=record.address, netns=record.netns)
            self._host.sandboxes.remove(record)
            self._record = None
        self._is_adopted = False

    def _tend_containers(self, pod: Pod, record: SandboxRecord, now: float) -> SandboxRecord:
        for container in self._each(pod):
            tended = container.tend(pod, record, now)
            if tended != record:
                self._host.records.write(tended)
                self._record = record = tended
        return record

    def _each(self, pod: Pod) -> tuple[RunningContainer, ...]:
        for container in pod.spec.containers or ():
            if container.name not in self._containers:
                self._containers[container.name] = RunningContainer(container, self._host.launcher)
        return tuple(self._containers.values())

    def _publish(self, pod: Pod) -> None:
        containers = pod.spec.containers or ()
        observed = Observed(
            record=self._record,
            ready=frozenset(name for name, container in self._containers.items() if container.is_ready),
            waiting={each.name: why for each in containers if (why := self._waiting_of(each.name)) is not None},
            host_ip=self._host.address,
        )
        rendered = status.render(pod, observed, before=self._said, now=datetime.now(UTC))
        if rendered != self._said:
            self._said = rendered
            self._host.publisher.status(self._key, rendered)

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
            self._host.sandboxes.remove(record)
            self._record = None
            log.info("sandbox removed", address=record.address, netns=record.netns)
        self._host.sandboxes.clear(self._key.uid)
        self._host.records.remove_logs(self._key.uid)
        if pod is None:
            self._host.publisher.forget(self._key)
        else:
            self._host.publisher.gone(self._key)
        return True

    def _is_still_ending(self, record: SandboxRecord, pod: Pod | None, now: float) -> bool:
        """Ask the containers to end; give them the time they have; say whether that goes on."""
        if self._kill_at is None:
            log.info("pod ends", grace=_grace(pod))
            for process in _processes(record):
                processes.send(process, signal.SIGTERM)
        # A second, more impatient deletion shortens the wait.
        self._kill_at = min(self._kill_at or float("inf"), now + _grace(pod))
        if now >= self._kill_at or not any(processes.is_alive(process) for process in _processes(record)):
            return False
        self._sleep(self._kill_at - now)
        return True

    # --- sleeping

    def _sleep(self, seconds: float | None) -> None:
        """Wait for a change of the object, the end of a process, or the time to pass."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        watched = _processes(self._record) if self._record is not None else ()
        descriptors = [fd for process in watched if (fd := processes.open_pidfd(process)) is not None]
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        # One that has ended by now is to be seen to at once; while the pod is ending, that is no news.
        if len(descriptors) < len(watched) and self._kill_at is None:
            seconds = 0
        poll.poll(None if seconds is None else max(0.0, min(seconds, _LONGEST_SLEEP)) * 1000)
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)


def _processes(record: SandboxRecord) -> tuple[Process, ...]:
    return tuple(container.process for container in record.containers if container.process is not None)


def _grace(pod: Pod | None) -> float:
    if pod is None or pod.metadata.deletion_grace_period_seconds is None:
        return _FORGOTTEN_GRACE
    return float(pod.metadata.deletion_grace_period_seconds)
