"""What a runner asks of whatever makes sandboxes and runs containers in them.

A runtime never decides whether something should run. It does what it is told, says what there is, and wakes the worker
of a pod when that may have changed.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from kube.objects import Container, Pod
from pods.record import SandboxRecord


class RuntimeFailed(Exception):
    """The runtime or the network plugin refused, or does not answer. To be tried again."""


class CannotStart(Exception):
    """A container cannot start as its spec stands. `reason` is the word a kubelet has for it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason, self.message = reason, message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class Runtime(Protocol):
    """One node's. Every method may raise RuntimeFailed, DataplaneError or OSError, and may then be repeated."""

    def follow(self, wake: Callable[[str], None]) -> None:
        """From now on call `wake` with a pod's uid when its sandbox or a container may have changed."""
        ...

    def close(self) -> None:
        """Stop following; all that runs goes on."""
        ...

    def left(self) -> Iterable[SandboxRecord]:
        """Yield what earlier runners left."""
        ...

    # --- sandboxes

    def make(self, pod: Pod) -> SandboxRecord:
        """Make and wire a sandbox, after taking down what failed tries left of it."""
        ...

    def adopt(self, record: SandboxRecord) -> SandboxRecord | None:
        """Return an earlier runner's sandbox with what runs in it; None when it is not whole any more."""
        ...

    def look(self, record: SandboxRecord) -> SandboxRecord | None:
        """Return the record with the ends that happened since; None when the sandbox is lost."""
        ...

    def remember(self, record: SandboxRecord) -> None:
        """Keep this over the runner's death."""
        ...

    def release(self, record: SandboxRecord) -> SandboxRecord:
        """Give back namespace and addresses and keep what is needed for the pod's status."""
        ...

    def remove(self, record: SandboxRecord) -> None:
        """Kill what runs and give back everything."""
        ...

    def clear(self, uid: str) -> None:
        """Give back whatever there still is of a pod, its logs too."""
        ...

    # --- containers

    def start(self, pod: Pod, container: Container, sandbox: SandboxRecord) -> str:
        """Start a container; return its name for ContainerRecord.running. Raises CannotStart."""
        ...

    def ask_to_end(self, sandbox: SandboxRecord, grace: float) -> None:
        """Send what runs its signal to end, and return without waiting."""
        ...

    def probe(self, command: tuple[str, ...], sandbox: SandboxRecord, container: str, *, seconds: float) -> str:
        """Run a command beside a container; return why that failed, or nothing."""
        ...

    def trim_logs(self) -> None:
        """Keep the containers' logs from growing without end."""
        ...
