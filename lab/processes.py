"""Processes of a lab, known by what the kernel says of them and not by remembered numbers.

Every process a lab starts carries in its environment the lab's folder and the part it plays. Reading
them from /proc finds exactly the lab's processes, also when whoever started them was killed before it could write
anything down. A number alone means nothing, since the kernel gives it out again: a process is its pid and the moment
it started, and a signal goes through a descriptor of that very process.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from dataplane import netns
from lab.process import Process

LAB: Final = "PODWIRE_LAB"
ROLE: Final = "PODWIRE_ROLE"
NETNS: Final = "PODWIRE_NETNS"
PASSED_SOCKET: Final = 3

_PROC: Final = Path("/proc")


def lookup(pid: int) -> Process | None:
    """Return the process of this number; None when there is none, or only its unread exit status is left."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc_pid_stat(5): the second field, the name, may hold spaces and parentheses; state is field 3, starttime 22.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else Process(pid=pid, started=int(fields[19]))


def is_alive(process: Process) -> bool:
    return lookup(process.pid) == process


def is_session_leader(process: Process) -> bool:
    """Say whether this is a process `spawn` made, and not a child of one."""
    try:
        return os.getsid(process.pid) == process.pid
    except ProcessLookupError:
        return False


def _all_pids() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def environment(pid: int) -> Mapping[str, str]:
    """What the program was started with; empty when it is gone or is a kernel thread."""
    try:
        raw = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (os.fsdecode(item).partition("=") for item in raw.split(b"\0") if item)
    return {name: value for name, _, value in pairs}


def of_lab(directory: Path) -> dict[str, list[Process]]:
    """Return the lab's processes by role, the oldest of each first."""
    found: dict[str, list[Process]] = {}
    for pid in _all_pids():
        variables = environment(pid)
        if variables.get(LAB) == str(directory) and (process := lookup(pid)):
            found.setdefault(variables.get(ROLE, ""), []).append(process)
    return {role: sorted(processes, key=lambda process: process.started) for role, processes in found.items()}


def namespace_of(pid: int) -> netns.Identity | None:
    """Return the network namespace of a process; None when it is gone."""
    try:
        stat = (_PROC / str(pid) / "ns" / "net").stat()
    except OSError:
        return None
    return netns.Identity(device=stat.st_dev, inode=stat.st_ino)


def in_namespaces(identities: frozenset[netns.Identity]) -> tuple[Process, ...]:
    """Return every process that is in one of these namespaces, whoever started it."""
    inside = (pid for pid in _all_pids() if namespace_of(pid) in identities)
    return tuple(process for pid in inside if (process := lookup(pid)))


def spawn(
    argv: tuple[str, ...],
    *,
    log: Path,
    variables: Mapping[str, str],
    namespace_fd: int | None = None,
    passed_socket: int | None = None,
    blocked: tuple[int, ...] = (),
) -> Process:
    """Start a program in a session of its own, both outputs appended to `log`, inside a namespace if one is given.

    A thread that has entered the namespace makes the child, so the child is born inside. Signals that are `blocked`
    wait until the program is ready for them. Raises OSError.
    """

    def start() -> int:
        actions: list[tuple[int, ...]] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),  # type: ignore[list-item]
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),  # type: ignore[list-item]
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        if passed_socket is not None:
            actions.append((os.POSIX_SPAWN_DUP2, passed_socket, PASSED_SOCKET))
        # The interpreter ignores SIGPIPE, and that would be inherited.
        return os.posix_spawnp(
            argv[0],
            argv,
            dict(variables),
            file_actions=actions,
            setsid=True,
            setsigmask=blocked,
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )

    pid = start() if namespace_fd is None else netns.run_in(namespace_fd, start)
    # Not yet reaped, so the number is still this child's even if it has ended already.
    return lookup(pid) or Process(pid=pid, started=0)


def open_pidfd(process: Process) -> int | None:
    """Return a descriptor that stays this process's and becomes readable at its end; None when it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if is_alive(process):
        return descriptor
    os.close(descriptor)
    return None


def send(process: Process, signal_number: int) -> None:
    """Send a signal to this process and to no later one of its number. Gone is success."""
    if (descriptor := open_pidfd(process)) is None:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal_number)
    finally:
        os.close(descriptor)


def reap(pid: int) -> int | None:
    """Return how our ended child ended, as a shell says it (128 + signal); None when it is not our child."""
    try:
        _, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def wait_gone(processes: Iterable[Process], *, seconds: float) -> tuple[Process, ...]:
    """Wait for all of these to end; return those that had not when the time was over."""
    deadline = time.monotonic() + seconds
    return tuple(process for process in processes if not _ends_by(process, deadline))


def run_to_end(process: Process, *, seconds: float) -> int | None:
    """Wait for our child and return how it ended; None when it had to be killed because the time was over."""
    if wait_gone([process], seconds=seconds):
        send(process, signal.SIGKILL)
        wait_gone([process], seconds=5)
        reap(process.pid)
        return None
    return reap(process.pid)


def _ends_by(process: Process, deadline: float) -> bool:
    if (descriptor := open_pidfd(process)) is None:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
    finally:
        os.close(descriptor)


def kill(condemned: Iterable[Process]) -> None:
    """SIGKILL, and wait for the end of all."""
    victims = tuple(condemned)
    for process in victims:
        send(process, signal.SIGKILL)
    wait_gone(victims, seconds=5)


def end(processes: Iterable[Process], *, grace: float) -> None:
    """SIGTERM, and after `grace` seconds SIGKILL to those that are left; return when all have ended."""
    condemned = tuple(processes)
    for process in condemned:
        send(process, signal.SIGTERM)
    stubborn = wait_gone(condemned, seconds=grace)
    kill(stubborn)
