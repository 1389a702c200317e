"""The lab's machines as the host sees them: started and stopped by Vagrant, commanded over its ssh."""

import contextlib
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
_COMMAND_SECONDS = 120


class Failed(Exception):
    """A check that did not hold; its text is the table's."""


@dataclass(frozen=True)
class Machine:
    name: str
    ssh_config: Path

    def run(self, script: str, *, seconds: float = _COMMAND_SECONDS) -> str:
        """Run a shell script as root and return its output."""
        argv = ["ssh", "-F", str(self.ssh_config), self.name, "sudo", "sh", "-s"]
        try:
            done = subprocess.run(argv, input=script, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{self.name}: no end after {seconds:g} s: {_first_line(script)}") from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-300:]
            raise Failed(f"{self.name}: exit {done.returncode}: {_first_line(script)}: {said}")
        return done.stdout

    def start(self, script: str) -> subprocess.Popen[str]:
        """Start a shell script as root that ends when its standard input does, or by itself."""
        argv = ["ssh", "-F", str(self.ssh_config), self.name, f"sudo sh -c '{script}'"]
        return subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

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
        return self.run("cat /proc/sys/kernel/random/boot_id", seconds=30).strip()

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
        config.write_text(f"{text}\n{sharing}  ServerAliveInterval 5\n  ServerAliveCountMax 4\n  ConnectTimeout 20\n")
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
        raise Failed(f"vagrant {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


def eventually(condition: Callable[[], T], what: str, *, within: float, every: float = 1.0) -> T:
    """Return the first truthy answer."""
    deadline = time.monotonic() + within
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {within:g} s: {what}")
        time.sleep(every)
    return answer


def _first_line(script: str) -> str:
    return next((line for line in script.splitlines() if line.strip()), "")[:80]
