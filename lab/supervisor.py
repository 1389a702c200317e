"""The process that keeps a lab's components running, one per lab.

It starts what should run and starts again what ends. It holds nothing that is lost with it: which components there are
is in the lab's folder, which processes run is asked of the kernel. Killed, it leaves them all running; its successor
finds them, watches them through descriptors as if they were its own children, and goes on. SIGHUP makes it read the
folder again, SIGTERM ends it and nothing else.
"""

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import structlog

from dataplane import atomic_file, netns
from dataplane.errors import DataplaneError
from lab import plan, processes, state, topology
from lab.errors import LabError
from lab.plan import Component, Lab, Listener
from lab.process import Process
from pods import log_files, logs, supervision
from pods.supervision import History

log = structlog.get_logger(__name__)

ROLE = "supervisor"
_LOCK = "supervisor.lock"
_REPORT = "supervisor.json"
_STOP_GRACE = 10.0  # seconds from SIGTERM to SIGKILL for a component that is to stop
_LOOK_FOR_NEEDS = 0.05
_BACKLOG = 1024
_LOOK_AT_LOGS = 30.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor tells about one component."""

    restarts: int = 0
    last_exit: str = ""


_REPORTS: Final = msgspec.json.Decoder(dict[str, Report])


def log_path(lab: Lab) -> Path:
    return lab.logs / f"{ROLE}.log"


def read_reports(lab: Lab) -> dict[str, Report]:
    try:
        return _REPORTS.decode((lab.directory / _REPORT).read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}


class Supervisor:
    """The components of one lab: which run, which wait to be started, which are on their way to a stop."""

    def __init__(self, lab: Lab, python: str) -> None:
        self._lab = lab
        self._python = python
        self._components: tuple[Component, ...] = ()
        self._running: dict[str, Process] = {}
        self._descriptors: dict[str, int] = {}  # readable at the end of the process
        self._history: dict[str, History] = {}
        self._kill_at: dict[str, float] = {}
        self._told: dict[str, Report] = {}

    def reload(self) -> bool:
        """Read the folder again and put what is out of place in place. False when the lab is gone."""
        try:
            lab = state.load_directory(self._lab.directory)
        except LabError as error:  # what runs goes on as it was last described
            log.warning("the lab's description cannot be read", error=str(error))
            lab = self._lab
        if lab is None:
            return False
        self._lab = lab
        self._components = plan.components(lab, self._python)
        for component in self._components:
            self._history[component.name] = supervision.forgiven(self._history.get(component.name, History()))
            self._end_if_displaced(component)
        return True

    def adopt(self) -> None:
        """Take over what a predecessor left running."""
        found = processes.of_lab(self._lab.directory)
        for component in self._components:
            # The oldest: a younger one of the same role is its child.
            for process in found.get(component.name, [])[:1]:
                log.info("component adopted", component=component.name, pid=process.pid)
                self._watch(component.name, process)
                self._end_if_displaced(component)

    def _end_if_displaced(self, component: Component) -> None:
        """End a process whose namespace, or whose listener's, is no longer the one the lab has under that name."""
        process = self._running.get(component.name)
        place = _place(component)
        if process is None or place is None:
            return
        expected = {_spell(identity) for identity in topology.identities((place,))}
        if processes.environment(process.pid).get(processes.NETNS) not in expected:
            log.info("component is in a lost namespace", component=component.name, pid=process.pid)
            processes.end([process], grace=2)

    def _watch(self, name: str, process: Process) -> None:
        # A process that has ended already has no descriptor: its end is noticed at the next look.
        self._running[name] = process
        self._history[name] = supervision.started(self._history[name], time.monotonic())
        if (descriptor := processes.open_pidfd(process)) is not None:
            self._descriptors[name] = descriptor

    def wait(self, wake: socket.socket, seconds: float | None) -> None:
        """Sleep until a component ends, a signal comes or the time is over."""
        poll = select.poll()
        for descriptor in (wake.fileno(), *self._descriptors.values()):
            poll.register(descriptor, select.POLLIN)
        poll.poll(None if seconds is None else max(0.0, seconds) * 1000)
        with contextlib.suppress(BlockingIOError):
            wake.recv(4096)

    def notice_ends(self) -> None:
        for component in self._components:
            process = self._running.get(component.name)
            if process is not None and not processes.is_alive(process):
                self._account_for_end(component, process)

    def _account_for_end(self, component: Component, process: Process) -> None:
        name = component.name
        del self._running[name]
        if (descriptor := self._descriptors.pop(name, None)) is not None:
            os.close(descriptor)
        how = supervision.describe_exit(processes.reap(process.pid))
        self._kill_at.pop(name, None)
        if state.is_stopped(self._lab, component):
            log.info("component stopped", component=name, pid=process.pid, how=how)
            return
        self._history[name] = supervision.ended(self._history[name], time.monotonic(), how)
        log.warning("component ended", component=name, pid=process.pid, how=how)

    def advance(self) -> float | None:
        """Start and stop what is due. Return the seconds until something else may be, None for no such time."""
        now = time.monotonic()
        moments = [moment for component in self._components if (moment := self._advance(component, now)) is not None]
        self._tell()
        return min(moments) - now if moments else None

    def _advance(self, component: Component, now: float) -> float | None:
        """Do what is due for one component; return the moment to look at it again."""
        stopped = state.is_stopped(self._lab, component)
        if component.name in self._running:
            return self._stop(component, now) if stopped else None
        if stopped:
            return None
        if component.needs is not None and not component.needs.exists():
            return now + _LOOK_FOR_NEEDS
        if now < (start_at := self._history[component.name].start_at):
            return start_at
        return self._start(component, now)

    def _stop(self, component: Component, now: float) -> float:
        process = self._running[component.name]
        if component.name not in self._kill_at:
            processes.send(process, signal.SIGTERM)
            self._kill_at[component.name] = now + _STOP_GRACE
        elif now >= self._kill_at[component.name]:
            processes.send(process, signal.SIGKILL)
        return max(now + 0.1, self._kill_at[component.name])

    def _start(self, component: Component, now: float) -> float | None:
        try:
            process = start(self._lab, component)
        except (OSError, DataplaneError) as error:
            log.warning("component cannot start", component=component.name, error=str(error))
            self._history[component.name] = supervision.ended(self._history[component.name], now, str(error))
            return self._history[component.name].start_at
        log.info("component started", component=component.name, pid=process.pid)
        self._watch(component.name, process)
        return None

    def trim_logs(self) -> None:
        for path in (*(component.log for component in self._components), log_path(self._lab)):
            try:
                log_files.trim(path)
            except OSError as error:
                log.warning("log cannot be trimmed", file=str(path), error=str(error))

    def _tell(self) -> None:
        reports = {
            name: Report(restarts=history.restarts, last_exit=history.last_exit)
            for name, history in self._history.items()
        }
        if reports == self._told:
            return
        self._told = reports
        try:
            atomic_file.write(self._lab.directory / _REPORT, msgspec.json.encode(reports))
        except OSError as error:  # a full disk, say: no reason to leave the components alone
            log.warning("what the components did cannot be written down", error=str(error))


def start(lab: Lab, component: Component) -> Process:
    """Start a component where it belongs. Raises OSError or DataplaneError."""
    with contextlib.ExitStack() as stack:
        place = _place(component)
        target = None if place is None else stack.enter_context(netns.open_netns(topology.path_of(place)))
        listening = None
        if component.listener is not None and target is not None:
            listening = stack.enter_context(_listen(component.listener, target.fd))
        return processes.spawn(
            component.argv,
            log=component.log,
            variables=variables(lab, component.name) | ({processes.NETNS: _spell(target.identity)} if target else {}),
            namespace_fd=target.fd if target is not None and component.namespace is not None else None,
            passed_socket=None if listening is None else listening.fileno(),
        )


def _place(component: Component) -> str | None:
    """Return the name of the namespace a component depends on: its own, or that of its listener."""
    return component.listener.namespace if component.listener is not None else component.namespace


def _spell(identity: netns.Identity) -> str:
    return f"{identity.device}:{identity.inode}"


def _listen(listener: Listener, namespace_fd: int) -> socket.socket:
    address = (str(listener.address), listener.port)
    return netns.run_in(namespace_fd, lambda: socket.create_server(address, backlog=_BACKLOG))


def variables(lab: Lab, role: str) -> dict[str, str]:
    """Return the environment of one of the lab's processes: nothing of the user's shell but where programs are."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
    return kept | {processes.LAB: str(lab.directory), processes.ROLE: role}


class _Signals:
    """SIGTERM and SIGHUP as two flags and a socket that is readable when one was raised: none is lost before poll."""

    def __init__(self) -> None:
        self.asked_to_end = False
        self.asked_to_reload = False
        self.wake, self._write_end = socket.socketpair()
        for end in (self.wake, self._write_end):
            end.setblocking(False)
        signal.set_wakeup_fd(self._write_end.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "asked_to_end", True))
        signal.signal(signal.SIGHUP, lambda *_: setattr(self, "asked_to_reload", True))
        # Blocked since before this program began, so that a wish that came early did not end it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def take_reload(self) -> bool:
        asked, self.asked_to_reload = self.asked_to_reload, False
        return asked


def run(lab: Lab, python: str) -> None:
    """Keep the lab's components running until SIGTERM, or until the lab is gone."""
    signals = _Signals()
    supervisor = Supervisor(lab, python)
    supervisor.reload()
    supervisor.adopt()
    while not signals.asked_to_end:
        if signals.take_reload() and not supervisor.reload():
            log.warning("the lab's folder is gone", folder=str(lab.directory))
            return
        supervisor.notice_ends()
        due = supervisor.advance()
        supervisor.wait(signals.wake, _LOOK_AT_LOGS if due is None else min(due, _LOOK_AT_LOGS))
        supervisor.trim_logs()
        supervisor.notice_ends()


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[bool]:
    """Yield whether this is the lab's only supervisor; the lock lives as long as the process."""
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def main() -> None:
    folder = Path(sys.argv[1])
    logs.configure()
    os.chdir("/")
    lab = state.load_directory(folder)
    if lab is None:
        sys.exit(f"no lab in {folder}")
    with _only_one(folder) as alone:
        if not alone:
            sys.exit(f"another supervisor of {folder} is running")
        run(lab, sys.executable)


if __name__ == "__main__":
    main()
