"""One container of a pod as its worker tends it: started, watched, probed and started again."""

import time
from datetime import UTC, datetime

import msgspec
import structlog

from kube.objects import Container, Pod
from pods import probes, readiness, status, supervision
from pods.record import ContainerRecord, SandboxRecord
from pods.runtime import CannotStart, Runtime
from pods.status import Waiting
from pods.supervision import History

log = structlog.get_logger(__name__)


class RunningContainer:
    """What a runner holds in memory of one container: its readiness and its failures.

    With `was_ready` it is one that an earlier runner found ready: it stays so until a probe says otherwise.
    """

    def __init__(self, container: Container, runtime: Runtime, *, was_ready: bool = False) -> None:
        self.container = container
        self._runtime = runtime
        self._readiness = readiness.adopted(container.readiness_probe) if was_ready else None
        self._history = History()
        self._waiting: Waiting | None = None

    @property
    def is_ready(self) -> bool:
        return self._readiness is not None and self._readiness.ready

    @property
    def waiting(self) -> Waiting | None:
        return self._waiting

    def note_end(self, record: ContainerRecord, now: float) -> None:
        """Account for an end: say when it may start again."""
        how = supervision.describe_exit(record.exit_code)
        self._readiness = None
        self._history = supervision.ended(self._history, now, how)
        self._waiting = Waiting(reason=status.CRASH_LOOP, message=f"the container ended ({how}) and will start again")
        log.info("container ended", container=record.name, how=how)

    def tend(self, pod: Pod, sandbox: SandboxRecord, now: float) -> SandboxRecord:
        """Start what should run, ask when it is time to; return what is to be remembered."""
        record = sandbox.container(self.container.name)
        if not record.running and not status.has_finished(pod, record) and now >= self._history.start_at:
            record = self._start(pod, sandbox, record, now)
        sandbox = sandbox.with_container(record)
        if record.running:
            self._readiness = self._readiness or readiness.first(self.container.readiness_probe, now)
            self._probe(sandbox, now)
        return sandbox

    def next_look(self, pod: Pod, sandbox: SandboxRecord) -> float | None:
        """The moment this container needs attention even if nothing happens."""
        record = sandbox.container(self.container.name)
        if not record.running:
            return None if status.has_finished(pod, record) else self._history.start_at
        return self._readiness.next_at if self._readiness is not None else None

    def _start(self, pod: Pod, sandbox: SandboxRecord, record: ContainerRecord, now: float) -> ContainerRecord:
        again = record.started_at is not None
        started = msgspec.structs.replace(record, restarts=record.restarts + again)
        try:
            running = self._runtime.start(pod, self.container, sandbox.with_container(started))
        except CannotStart as error:
            self._cannot_start(Waiting(reason=error.reason, message=error.message), now)
            return record
        self._history = supervision.started(self._history, now)
        self._waiting = None
        log.info("container started", container=self.container.name, running=running)
        return msgspec.structs.replace(started, running=running, started_at=datetime.now(UTC))

    def _cannot_start(self, why: Waiting, now: float) -> None:
        if self._waiting != why:
            log.warning("container cannot start", container=self.container.name, reason=why.reason, error=why.message)
        self._waiting = why
        self._history = supervision.ended(self._history, now, why.message)

    def _probe(self, sandbox: SandboxRecord, now: float) -> None:
        probe, before = self.container.readiness_probe, self._readiness
        if probe is None or before is None or now < before.next_at:
            return
        if probe.exec is not None:
            failure = self._runtime.probe(
                probe.exec.command, sandbox, self.container.name, seconds=probe.timeout_seconds
            )
        else:
            failure = probes.ask(probe, self.container, sandbox.address)
        self._readiness = readiness.after(before, probe, failure=failure, now=time.monotonic())
        if self._readiness.ready != before.ready:
            log.info("readiness changed", container=self.container.name, ready=self._readiness.ready, why=failure)
