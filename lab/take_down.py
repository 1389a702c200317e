"""Taking a lab down until nothing of it is left: no process, no namespace, no file.

What there is is asked of the kernel, not of the lab's folder, so a lab whose folder is damaged or gone, whose
supervisor was killed or whose machine rebooted goes away all the same.
"""

import os
from pathlib import Path

from lab import control_groups, machine, processes, spelling, state, supervisor, topology
from lab.bring_up import owner_of_namespaces
from lab.errors import LabError
from lab.process import Process
from lab.progress import Progress

_GRACE = 5.0  # seconds for the programs to end by themselves
_SWEEPS = 10


def take_down(state_root: Path, name: str, progress: Progress) -> bool:
    """Remove a lab; False when there was nothing of it."""
    folder = state.directory(state_root, name)
    names = topology.namespaces(name)
    if not folder.exists() and not names:
        return False
    _refuse_foreign(folder, name)
    with state.locked(folder):
        _end_processes(folder, name, progress)
        _remove_namespaces(name, progress)
        control_groups.remove(f"pw-{name}")
        with progress.step("Files") as step:
            state.remove_folder(folder)
            step.say(str(folder))
    return True


def _refuse_foreign(folder: Path, name: str) -> None:
    owner = owner_of_namespaces(name)
    if owner is not None and owner != folder:
        raise LabError(
            f"the lab {name!r} that runs on this machine has its state in {owner}",
            f"Take it down with: {spelling.command('down', owner)}",
        )


def _end_processes(folder: Path, name: str, progress: Progress) -> None:
    with progress.step("Processes") as step:
        ended = 0
        # The supervisor first, else it would start again what ends; then the runners with the rest.
        for roles in (_is_supervisor, _is_component):
            chosen = [each for role, some in processes.of_lab(folder).items() if roles(role) for each in some]
            processes.end(chosen, grace=_GRACE)
            ended += len(chosen)
        for _ in range(_SWEEPS):
            left = _everything(folder, name)
            processes.kill(left)
            ended += len(left)
            if not left:
                step.say(f"{ended} ended")
                return
        raise LabError(f"processes of the lab {name!r} do not end: {[process.pid for process in left]}")


def _is_supervisor(role: str) -> bool:
    return role == supervisor.ROLE


def _is_component(role: str) -> bool:
    # Containers end with their node's machine, and shims do not listen to SIGTERM.
    return role == "api" or not (role.startswith("pod/") or machine.is_of_containers(role))


def _everything(folder: Path, name: str) -> tuple[Process, ...]:
    """Return the pods' processes and whatever else is in the lab's namespaces, such as a forgotten shell."""
    marked = {process for some in processes.of_lab(folder).values() for process in some}
    inside = processes.in_namespaces(topology.identities(topology.namespaces(name)))
    return tuple(process for process in marked.union(inside) if process.pid != os.getpid())


def _remove_namespaces(name: str, progress: Progress) -> None:
    with progress.step("Namespaces") as step:
        names = topology.namespaces(name)
        topology.remove(names)
        step.say(f"{len(names)} removed")
