"""The runtime of a lab's runner: namespaces, processes and small files, behind what `pods` asks of any runtime."""

import signal
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec
import structlog

from kube.objects import Container, Pod
from lab import processes
from lab.process import Process
from lab.runner.ends import Ends
from lab.runner.launcher import Launcher
from lab.runner.sandboxes import Sandboxes
from pods import log_files
from pods.record import ContainerRecord, SandboxRecord

log = structlog.get_logger(__name__)


class ProcessRuntime:
    """Pods of one lab node as processes. Fulfils `pods.runtime.Runtime`."""

    def __init__(self, *, sandboxes: Sandboxes, launcher: Launcher) -> None:
        self._sandboxes = sandboxes
        self._launcher = launcher
        self._records = sandboxes.records
        self._ends: Ends | None = None

    def follow(self, wake: Callable[[str], None]) -> None:
        self._ends = Ends(wake)

    def close(self) -> None:
        if self._ends is not None:
            self._ends.close()

    def left(self) -> Iterable[SandboxRecord]:
        return self._records.all()

    # --- sandboxes

    def make(self, pod: Pod) -> SandboxRecord:
        return self._sandboxes.make(pod)

    def adopt(self, record: SandboxRecord) -> SandboxRecord | None:
        if not self._sandboxes.is_intact(record):
            return None
        for name, process in self._launcher.find(record).items():
            known = record.container(name)
            if known.running != str(process):
                started = datetime.now(UTC)
                known = msgspec.structs.replace(known, running=str(process), started_at=started)
                log.info("process adopted that no record tells of", container=name, pid=process.pid)
                record = record.with_container(known)
            self._watch(process, record)
        return record

    def look(self, record: SandboxRecord) -> SandboxRecord:
        for container in record.running:
            process = Process.parse(container.running)
            if not processes.is_alive(process):
                record = record.with_container(_ended(container, processes.reap(process.pid)))
        return record

    def remember(self, record: SandboxRecord) -> None:
        self._records.write(record)

    def release(self, record: SandboxRecord) -> SandboxRecord:
        return self._sandboxes.release(record)

    def remove(self, record: SandboxRecord) -> None:
        self._sandboxes.remove(record)
        for container in record.running:
            processes.reap(Process.parse(container.running).pid)

    def clear(self, uid: str) -> None:
        self._sandboxes.clear(uid)
        self._records.remove_logs(uid)

    # --- containers

    def start(self, pod: Pod, container: Container, sandbox: SandboxRecord) -> str:
        process = self._launcher.start(pod, container, sandbox)
        self._watch(process, sandbox)
        return str(process)

    def ask_to_end(self, sandbox: SandboxRecord, grace: float) -> None:  # noqa: ARG002 - the worker waits itself
        for container in sandbox.running:
            processes.send(Process.parse(container.running), signal.SIGTERM)

    def probe(self, command: tuple[str, ...], sandbox: SandboxRecord, container: str, *, seconds: float) -> str:  # noqa: ARG002 - all containers of a pod share the machine's files
        return self._launcher.run_probe(command, sandbox, seconds=seconds)

    def trim_logs(self) -> None:
        for path in self._records.log_files():
            log_files.trim(path)

    def _watch(self, process: Process, sandbox: SandboxRecord) -> None:
        if self._ends is not None:
            self._ends.watch(process, sandbox.uid)


def _ended(container: ContainerRecord, exit_code: int | None) -> ContainerRecord:
    return msgspec.structs.replace(container, running="", exit_code=exit_code, finished_at=datetime.now(UTC))
