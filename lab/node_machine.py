"""Going inside a node's machine: a network namespace with mounts and processes of its own.

python -m lab.node_machine LAB NODE COMMAND…    runs a command inside the machine, and ends with it
"""

import os
import sys
from pathlib import Path

from lab import machine, processes
from lab.errors import LabError


def first_process(directory: Path, node: str) -> int | None:
    """Return the pid, as the lab sees it, of the machine's first process; None while there is none."""
    found = processes.of_lab(directory).get(machine.role(node), [])
    inside = [process.pid for process in found if _is_first(process.pid)]
    return inside[0] if inside else None


def _is_first(pid: int) -> bool:
    """Say whether a process is number 1 of a process namespace below ours."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return len(numbers) > 1 and numbers[-1] == "1"


def path_inside(directory: Path, node: str, path: str) -> str:
    """Return a path that leads from here to a file of the machine. Raises LabError when it does not run."""
    pid = first_process(directory, node)
    if pid is None:
        raise LabError(f"the machine of {node} does not run")
    # /var/run is a link to /run, and an absolute link would lead out of the machine.
    return f"/proc/{pid}/root/{path.removeprefix('/var').lstrip('/')}"


def enter(pid: int, node: str, command: list[str]) -> None:
    """Become a command inside the machine. Killed, it takes the command along, but not what that left to itself."""
    inside = ("nsenter", f"--target={pid}", "--mount", "--pid", "--")
    bound = ("setpriv", "--pdeathsig", "TERM", "env", f"{processes.ROLE}={machine.containers_role(node)}")
    os.execvp(inside[0], [*inside, *bound, *command])  # noqa: S606 - one of the lab's own programs


def main() -> None:
    directory, node, *command = sys.argv[1:]
    pid = first_process(Path(directory), node)
    if pid is None:
        sys.exit(f"the machine of {node} does not run yet")
    enter(pid, node, command)


if __name__ == "__main__":
    main()
