"""Containers' commands as processes inside a pod's namespace: started, found again, probed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dataplane import netns
from dataplane.errors import DataplaneError
from kube.objects import Container, Pod
from lab import processes, topology
from lab.process import Process
from lab.runner import images
from lab.runner.records import Records
from pods import environment, supervision
from pods.record import SandboxRecord
from pods.runtime import CannotStart


def role(record: SandboxRecord, container: str) -> str:
    """Return what the processes of a container carry in their environment, so that they can be found again."""
    return f"pod/{record.sandbox_id[:12]}/{container}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """How processes of pods are started on this node. `variables` are those every one of them gets."""

    records: Records
    variables: Mapping[str, str]
    host: str

    def start(self, pod: Pod, container: Container, record: SandboxRecord) -> Process:
        """Start a container's command inside the pod's namespace. Raises CannotStart, DataplaneError."""
        argv = images.command(container)
        variables = {
            **self.variables,
            processes.ROLE: role(record, container.name),
            **environment.variables(pod, container, addresses=record.addresses, host=self.host),
        }
        with netns.open_netns(topology.path_of(record.netns)) as target:
            try:
                return processes.spawn(
                    argv,
                    log=self.records.log_file(record.uid, container.name),
                    variables=variables,
                    namespace_fd=target.fd,
                )
            except (OSError, ValueError) as error:  # ValueError: a command or variable that no process can have
                raise CannotStart("RunContainerError", str(error)) from error

    def find(self, record: SandboxRecord) -> Mapping[str, Process]:
        """Return what runs of a pod by container.

        A process started just before its starter was killed is in no record. Its environment tells of it: left
        alone it would hold the pod's port against the one that is started in its place.
        """
        prefix = role(record, "")
        found = {
            name.removeprefix(prefix): [each for each in some if processes.is_session_leader(each)]
            for name, some in processes.of_lab(Path(self.variables[processes.LAB])).items()
            if name.startswith(prefix)
        }
        return {container: leaders[0] for container, leaders in found.items() if leaders}

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
