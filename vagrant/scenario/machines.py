"""The lab's machines as the host sees them: started and stopped by Vagrant, commanded over its ssh."""

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_VAGRANT_DIRECTORY = Path(__file__).parents[1]
_CONFIG = Path(os.environ.get("PODWIRE_VAGRANT_CONFIG") or _VAGRANT_DIRECTORY / "config.yaml")
# How many times longer everything may take here than on a real processor.
PATIENCE = 10 if re.search(r"^libvirt_driver:\s*qemu\b", _CONFIG.read_text(), re.MULTILINE) else 1
_COMMAND_SECONDS = 60 * PATIENCE
_CONNECTION_LOST = 255  # what ssh itself ends with; commands here end with less
_CONNECTIONS = 3


class Failed(Exception):
    """A check that did not hold; its text is the table's."""


@dataclass(frozen=True)
class Machine:
    name: str
    ssh_config: Path

    def run(self, script: str, *, seconds: float = _COMMAND_SECONDS, connections: int = _CONNECTIONS) -> str:
        """Run a shell script as root and return its output; once more where the connection was lost."""
        done = self._once(script, seconds)
        for _ in range(connections - 1):
            if done.returncode != _CONNECTION_LOST:
                break
            forget(self)
            done = self._once(script, seconds)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-300:]
            raise Failed(f"{self.name}: exit {done.returncode}: {_gist(script)}: {said}")
        return done.stdout

    def _once(self, script: str, seconds: float) -> subprocess.CompletedProcess[str]:
        argv = ["ssh", "-F", str(self.ssh_config), self.name, "sudo", "sh", "-s"]
        try:
            return subprocess.run(argv, input=script, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{self.name}: no end after {seconds:g} s: {_gist(script)}") from error

    def in_pod(self, address: str, script: str) -> str:
        """Run a script of this machine's programs in the network of the pod that has the address."""
        return self.run(f"""
for namespace in /run/netns/*; do
  nsenter --net="$namespace" ip -o address show to {address} 2>/dev/null | grep -q . || continue
  nsenter --net="$namespace" sh -s <<'INSIDE'
{script}
INSIDE
  exit
done
echo "no network namespace here has {address}" >&2
exit 1
""")

    def boot_id(self) -> str:
        return self.run("cat /proc/sys/kernel/random/boot_id", connections=1).strip()

    def is_up(self) -> bool:
        with contextlib.suppress(Failed):
            return bool(self.boot_id())
        return False


@contextlib.contextmanager
def machines() -> Iterator[dict[str, Machine]]:
    """The machines that Vagrant says are running, by name; connections to them are shared and kept open."""
    with tempfile.TemporaryDirectory(prefix="podwire-smoke-") as directory:
        config = Path(directory, "ssh")
        text = vagrant("ssh-config")
        sharing = f"Host *\n  ControlMaster auto\n  ControlPath {directory}/%n\n  ControlPersist 300\n"
        waits = f"  ServerAliveInterval 5\n  ServerAliveCountMax {4 * PATIENCE}\n  ConnectTimeout {10 * PATIENCE}\n"
        config.write_text(f"{text}\n{sharing}{waits}")
        names = re.findall(r"^Host (\S+)$", text, re.MULTILINE)
        found = {name: Machine(name, config) for name in names}
        try:
            yield found
        finally:
            for machine in found.values():
                forget(machine)


def forget(machine: Machine) -> None:
    """Close the shared connection: the machine at its other end has gone."""
    argv = ["ssh", "-F", str(machine.ssh_config), "-O", "exit", machine.name]
    subprocess.run(argv, capture_output=True, check=False)


def vagrant(*arguments: str, seconds: float = 3600) -> str:
    done = subprocess.run(
        ["vagrant", *arguments], cwd=_VAGRANT_DIRECTORY, capture_output=True, text=True, timeout=seconds, check=False
    )
    # ssh-config of machines that do not run is an error beside the answer about those that do.
    if done.returncode and not done.stdout.startswith("Host "):
        raise Failed(f"vagrant {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[:400]}")
    return done.stdout


def eventually(condition: Callable[[], T], what: str, *, within: float, every: float = 1.0) -> T:
    """Return the first truthy answer. `within` is for real processors. A question that fails is asked again, and told.

    At most half of the time goes into asking: an emulated machine has to do what it is asked about as well.
    """
    within *= PATIENCE
    deadline = time.monotonic() + within
    while True:
        began = time.monotonic()
        answer, why = _asked(condition)
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Failed(f"not within {within:g} s: {what}{why}")
        time.sleep(max(every, time.monotonic() - began))


def _asked(condition: Callable[[], T]) -> tuple[T | None, str]:
    try:
        return condition(), ""
    except Failed as error:
        return None, f"; {error}"


def _gist(script: str) -> str:
    """The line of a script that says most of what it does, for a message."""
    lines = [line for line in script.splitlines() if line.strip() and not line.startswith("export ")]
    return lines[0][:80] if lines else ""
