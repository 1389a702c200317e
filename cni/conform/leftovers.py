"""What an examination has on the machine while it lasts: named network namespaces, and folders for plugins' states.

Their names carry the examiner's process id. What one that was killed at once left (kill -9, out of memory) is told by
it from what is in use, and goes with the next examination.
"""

import contextlib
import os
import re
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dataplane import netns
from dataplane.errors import DataplaneError

_PROC = Path("/proc")
_NAMESPACE = re.compile(r"conform-[a-z]+-(?P<examiner>[0-9]+)-[0-9a-f]{8}")
_FOLDER = re.compile(r"podwire-conform-(?P<examiner>[0-9]+)-[a-z0-9_]{8}")


def namespace_name(label: str) -> str:
    return f"conform-{label}-{os.getpid()}-{secrets.token_hex(4)}"


def make_folder() -> Path:
    # Not a TemporaryDirectory: what the plugin left behind, of whatever mode, must not fail the check.
    return Path(tempfile.mkdtemp(prefix=f"podwire-conform-{os.getpid()}-"))


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def end_processes(namespace: netns.Netns) -> None:
    """Kill what a plugin left running in a namespace: it would keep it alive, without a name."""
    for process in _PROC.iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):  # it ended meanwhile
                found = (process / "ns/net").stat()
                if (found.st_dev, found.st_ino) == (namespace.identity.device, namespace.identity.inode):
                    os.kill(int(process.name), signal.SIGKILL)


def sweep() -> None:
    """Remove what is left of examiners that are no more."""
    for path in _of_the_dead(netns.DIRECTORY, _NAMESPACE):
        with contextlib.suppress(DataplaneError), netns.open_netns(path) as namespace:
            end_processes(namespace)
        netns.delete(path.name)
    for folder in _of_the_dead(Path(tempfile.gettempdir()), _FOLDER):
        remove_folder(folder)


def _of_the_dead(directory: Path, names: re.Pattern[str]) -> Iterator[Path]:
    for path in directory.iterdir() if directory.exists() else ():
        found = names.fullmatch(path.name)
        if found and not (_PROC / found["examiner"]).exists() and _is_ours(path):
            yield path


def _is_ours(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except FileNotFoundError:  # another examiner sweeps as well
        return False
