"""A machine of a test's own for container runtimes: what they write, mount and start is gone with it.

One network, mount and process namespace. /etc, /var and /opt are overlays, so runtimes find their fixed paths and may
change them; /run and /dev/shm are empty. When its first process ends the kernel kills all others.
"""

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab.images.oci import File, Image, Layer, archive
from tests.namespaces import Namespace
from tests.waiting import eventually

BUSYBOX = Path("/bin/busybox")
IMAGE = "docker.io/podwire/busybox:test"
_OVERLAYS = ("etc", "var", "opt")
_INIT = """
set -e
for name in {names}; do
  mkdir -p {scratch}/$name.upper {scratch}/$name.work
  mount -t overlay -o lowerdir=/$name,upperdir={scratch}/$name.upper,workdir={scratch}/$name.work overlay /$name
done
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
echo ready
read -r _
"""


@dataclass(frozen=True)
class Machine:
    pid: int  # its first process
    cgroup: str
    started: list[subprocess.Popen] = field(default_factory=list)

    def argv(self, *argv: str) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--", *argv]

    def run(self, *argv: str, env: dict[str, str] | None = None) -> str:
        environ = {**os.environ, **(env or {})}
        done = subprocess.run(self.argv(*argv), capture_output=True, text=True, env=environ, timeout=250)
        assert not done.returncode, f"{' '.join(argv)}: exit {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout

    def start(self, *argv: str, log: Path) -> subprocess.Popen:
        """Start a program that ends with the machine at the latest."""
        with log.open("ab") as output:
            self.started.append(
                subprocess.Popen(self.argv(*argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            )
        return self.started[-1]

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine, below one of its overlays."""
        subprocess.run(
            self.argv("sh", "-c", f"mkdir -p {os.path.dirname(path)} && cat > {path}"),
            input=text.encode(),
            check=True,
            timeout=60,
        )


@contextlib.contextmanager
def machine(namespace: Namespace, scratch: Path) -> Iterator[Machine]:
    """A machine whose network is `namespace`. Nothing of it is left afterwards but files below `scratch`."""
    script = _INIT.format(names=" ".join(_OVERLAYS), scratch=scratch)
    outer = namespace.start(
        *("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", script),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    started: list[subprocess.Popen] = []
    try:
        assert outer.stdout.readline() == "ready\n"
        yield Machine(_only_child(outer.pid), f"/{namespace.name}", started)
    finally:
        outer.stdin.close()
        for process in (outer, *started):
            process.wait(60)
        outer.stdout.close()
        _remove_cgroups(namespace.name)


def _only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def _remove_cgroups(name: str) -> None:
    for top in groups(name):
        for path, _, _ in os.walk(top, topdown=False):
            # The killed processes leave their group only when the kernel has buried them.
            eventually(lambda path=path: is_removed(path))


def groups(name: str) -> list[str]:
    """The topmost control groups of a name, in every hierarchy; those of others come and go meanwhile."""
    return [os.path.join(path, name) for path, below, _ in os.walk("/sys/fs/cgroup") if name in below]


def is_removed(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def image(path: Path) -> Path:
    """Write an OCI image of nothing but busybox."""
    files = {"bin/busybox": File(content=BUSYBOX.read_bytes(), mode=0o755)}
    layer = Layer(files=files, links={"bin/sh": "busybox"})
    path.write_bytes(archive([Image(name=IMAGE, machine=platform.machine(), layers=(layer,), path="/bin")]))
    return path
