"""One check's world: a node, its pods, a network of its own, and the plugin executed in the node as a runtime does.

The executable runs in the node's network namespace with the machine's file systems; whatever it does to links,
addresses, routes and packet filters stays in there and goes with it.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self, cast

from cni.conform import confs, leftovers, place
from cni.conform.answer import Answer
from cni.conform.confs import Conf
from cni.conform.interruption import Interruption
from cni.conform.place import Place
from cni.spec import Command
from dataplane import netns

PATIENCE = 60.0
_HEED_SECONDS = 0.1  # between two looks at whether the examination is to end
_PIPE_SIZE = 65536  # pipe(7): Linux' default
IFNAME = "eth0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The plugin under examination, how it is to be called, and until when."""

    executable: Path
    cni_path: str
    template: Mapping[str, Any]
    versions: tuple[str, ...] = ()
    interruption: Interruption = field(default_factory=Interruption)
    patience: float = PATIENCE
    """Seconds after which a call that has not ended counts as unanswered."""

    @property
    def version(self) -> str:
        """The newest version it speaks."""
        return self.versions[-1] if self.versions else "1.0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One execution. A variable set to None is left out; `stdin` takes the place of the configuration."""

    command: str
    conf: Mapping[str, Any] = field(default_factory=dict)
    container_id: str = "conform-nobody"
    netns: str = ""
    ifname: str = IFNAME
    environ: Mapping[str, str | None] = field(default_factory=dict)
    stdin: bytes | None = None

    def variables(self, cni_path: str) -> dict[str, str]:
        given: dict[str, str | None] = {
            "PATH": os.environ.get("PATH", os.defpath),
            "CNI_COMMAND": self.command,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.ifname,
            "CNI_PATH": cni_path,
            **self.environ,
        }
        return {name: value for name, value in given.items() if value is not None}

    def input(self) -> bytes:
        return json.dumps(self.conf).encode() if self.stdin is None else self.stdin


class World:
    """What a check has at hand. Use as a context manager: everything it made is gone afterwards.

    Any step raises Interrupted when the examination is to end.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self.state = leftovers.make_folder()
            self._held.callback(leftovers.remove_folder, self.state)
            self.node = self._held.enter_context(place.place("node"))
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def pod(self) -> Place:
        self.subject.interruption.heed()
        return self._held.enter_context(place.place("pod"))

    def conf(self, version: str = "", *, network: str = "conform") -> Conf:
        return confs.of_check(
            self.subject.template, name=network, version=version or self.subject.version, state=str(self.state)
        )

    def call(self, command: Command | str, pod: Place | None = None, **fields: Any) -> Answer:
        """Execute for a pod, whose name is the container id."""
        of_pod = {"container_id": pod.name, "netns": pod.path} if pod else {}
        return self.execute(Call(**{"command": command, "conf": self.conf(), **of_pod, **fields}))

    def execute(self, call: Call) -> Answer:
        process = self.start(call)
        try:
            stdout, stderr = self._output(process)
        except subprocess.TimeoutExpired:
            return Answer(exit_code=None, stdout=b"")
        finally:
            kill(process)
        return Answer(exit_code=process.returncode, stdout=stdout, stderr=stderr)

    def _output(self, process: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
        deadline = time.monotonic() + self.subject.patience
        while True:
            try:
                return process.communicate(timeout=_HEED_SECONDS)
            except subprocess.TimeoutExpired:
                self.subject.interruption.heed()
                if time.monotonic() > deadline:
                    raise

    def start(self, call: Call) -> "subprocess.Popen[bytes]":
        """Start the executable in the node, in a process group of its own, with all its stdin waiting for it."""
        self.subject.interruption.heed()
        stdin = call.input()

        def spawn() -> "subprocess.Popen[bytes]":
            return subprocess.Popen(
                [self.subject.executable],
                env=call.variables(self.subject.cni_path),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pipesize=max(len(stdin), _PIPE_SIZE),  # so that to write all of it never blocks
            )

        # A child is born into the namespace of the thread that makes it.
        process = netns.run_in(self.node.namespace.fd, spawn)
        with contextlib.suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as pipe:
            pipe.write(stdin)
        process.stdin = None
        return process


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a call that is not over and what it started, at once."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    # Closed, not read to their end: a process that left the group may hold the other ends.
    with process:
        pass
