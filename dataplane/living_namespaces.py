"""Which network namespaces are alive, as far as /proc tells: those that a thread is in, or that a mount keeps.

Before something is taken away because its namespace is gone, this is the kernel's second word. It errs on the side of
life: an inode number is given out again, so a namespace found here may be another than the one that was remembered.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

Inode = tuple[int, int]  # device and number

_PROC = Path("/proc")


def living() -> frozenset[Inode]:
    """Take 10 µs per thread of the machine, and a read of each mount namespace's table."""
    found: set[Inode] = set()
    mount_namespaces: dict[Inode, Path] = {}
    for task in _tasks():
        with contextlib.suppress(OSError):  # it ended meanwhile
            found.add(_inode(task / "ns/net"))
            mount_namespaces.setdefault(_inode(task / "ns/mnt"), task)
    for task in mount_namespaces.values():
        with contextlib.suppress(OSError):
            found.update(mounted((task / "mountinfo").read_text(errors="replace")))
    return frozenset(found)


def _tasks() -> Iterator[Path]:
    for process in _PROC.iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                yield from (process / "task").iterdir()


def _inode(path: Path) -> Inode:
    found = path.stat()
    return found.st_dev, found.st_ino


def mounted(mountinfo: str) -> Iterator[Inode]:
    """The network namespaces in a mount table (proc(5)): `… major:minor net:[inode] path … - nsfs …`."""
    for line in mountinfo.splitlines():
        fields = line.split()
        if len(fields) > 4 and fields[3].startswith("net:["):
            major, _, minor = fields[2].partition(":")
            yield os.makedev(int(major), int(minor)), int(fields[3][5:-1])
