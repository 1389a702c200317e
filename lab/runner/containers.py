"""One container of a pod: a process in the pod's namespace, started, watched, probed and started again.

An ended process of our own leaves an exit code; one that an earlier runner started leaves none, and counts as failed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from dataplane import netns
from dataplane.errors import DataplaneError
from kube.objects import Container, Pod
from lab import processes, supervision, topology
from lab.process import Process
from lab.runner import images, probes, readiness, status
from lab.runner.record import ContainerRecord, SandboxRecord
from lab.runner.records import Records
from lab.runner.status import Waiting
from lab.supervision import History

log = structlog.get_logger(__name__)


def role(record: SandboxRecord, container: str) -> str:
    """Return what the processes of a container carry in their environment, so that they can be found again."""
    return f"pod/{record.container_id[:12]}/{container}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """How processes of pods are started on this node. `variables` are those every one of them gets."""

    records: Records
    variables: Mapping[str, str]

    def start(self, pod: Pod, container: Container, record: SandboxRecord) -> Process:
        """Start a container's command inside the pod's namespace.

        Raises ImageError, OSError, DataplaneError, and ValueError for a command or variable that no process can have.
        """
        argv = images.command(container)
        variables = {
            **self.variables,
            processes.ROLE: role(record, container.name),
            **images.variables(pod, container, record.address),
        }
        with netns.open_netns(topology.path_of(record.netns)) as target:
            return processes.spawn(
                argv,
                log=self.records.log_file(record.uid, container.name),
                variables=variables,
                namespace_fd=target.fd,
            )

    def find_processes(self, record: SandboxRecord) -> SandboxRecord:
        """Return the record with the processes that run, also one started just before its starter was killed."""
        found = processes.of_lab(Path(self.variables[processes.LAB]))
        for container in record.containers:
            mine = [each for each in found.get(role(record, container.name), []) if processes.is_session_leader(each)]
            if mine and mine[0] != container.process:
                record = record.with_container(msgspec.structs.replace(container, process=mine[0]))
        return record

    def run_probe(self, command: tuple[str, ...], record: SandboxRecord, *, seconds: float) -> str:
        """Run an exec probe inside the pod's namespace; return why it failed, or nothing."""
        try:
            with netns.open_netns(topology.path_of(record.netns)) as target:
                process = processes.spawn(
                    command,
                    log=self.records.log_file(record.uid, "probe"),
                    variables=self.variables,
                    namespace_fd=target.fd,
                )
        except (OSError, ValueError, DataplaneError) as error:
            return f"Readiness probe failed: {error}"
        code = processes.run_to_end(process, seconds=seconds)
        if code is None:
            return f"Readiness probe failed: not finished within {seconds} s"
        return f"Readiness probe failed: {supervision.describe_exit(code)}" if code else ""


class RunningContainer:
    """What a runner holds in memory of one container: its readiness and its failures."""

    def __init__(self, container: Container, launcher: Launcher) -> None:
        self.container = container
        self._launcher = launcher
        self._readiness: readiness.Readiness | None = None
        self._history = History()
        self._waiting: Waiting | None = None

    @property
    def is_ready(self) -> bool:
        return self._readiness is not None and self._readiness.ready

    @property
    def waiting(self) -> Waiting | None:
        return self._waiting

    def tend(self, pod: Pod, sandbox: SandboxRecord, now: float) -> SandboxRecord:
        """Account for an end, start what should run, ask when it is time to; return what is to be remembered."""
        record = self._after_end(sandbox.container(self.container.name), now)
        if record.process is None and not status.has_finished(pod, record) and now >= self._history.start_at:
            record = self._start(pod, sandbox, record, now)
        if record.process is not None:
            self._readiness = self._readiness or readiness.first(self.container.readiness_probe, now)
            self._probe(sandbox, now)
        return sandbox.with_container(record)

    def next_look(self, pod: Pod, sandbox: SandboxRecord) -> float | None:
        """The moment this container needs attention even if nothing happens."""
        record = sandbox.container(self.container.name)
        if record.process is None:
            return None if status.has_finished(pod, record) else self._history.start_at
        return self._readiness.next_at if self._readiness is not None else None

    def _after_end(self, record: ContainerRecord, now: float) -> ContainerRecord:
        if record.process is None or processes.is_alive(record.process):
            return record
        code = processes.reap(record.process.pid)
        how = supervision.describe_exit(code)
        self._readiness = None
        self._history = supervision.ended(self._history, now, how)
        self._waiting = Waiting(reason=status.CRASH_LOOP, message=f"the container ended ({how}) and will start again")
        log.info("container ended", container=self.container.name, pid=record.process.pid, how=how)
        return msgspec.structs.replace(record, process=None, exit_code=code, finished_at=datetime.now(UTC))

    def _start(self, pod: Pod, sandbox: SandboxRecord, record: ContainerRecord, now: float) -> ContainerRecord:
        try:
            process = self._launcher.start(pod, self.container, sandbox)
        except images.ImageError as error:
            self._cannot_start(Waiting(reason=error.reason, message=str(error)), now)
            return record
        except (OSError, ValueError) as error:
            self._cannot_start(Waiting(reason="RunContainerError", message=str(error)), now)
            return record
        self._history = supervision.started(self._history, now)
        self._waiting = None
        log.info("container started", container=self.container.name, pid=process.pid)
        again = record.started_at is not None
        return msgspec.structs.replace(
            record, process=process, started_at=datetime.now(UTC), restarts=record.restarts + again
        )

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
            failure = self._launcher.run_probe(probe.exec.command, sandbox, seconds=probe.timeout_seconds)
        else:
            failure = probes.ask(probe, self.container, sandbox.address)
        self._readiness = readiness.after(before, probe, failure=failure, now=time.monotonic())
        if self._readiness.ready != before.ready:
            log.info("readiness changed", container=self.container.name, ready=self._readiness.ready, why=failure)
