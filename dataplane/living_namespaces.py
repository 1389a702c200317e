"""Which network namespaces are alive, as far as /proc tells: those that a thread is in, or that a mount keeps.

Before something is taken away because its namespace is gone, this is the kernel's second word. An inode number is given
out again at once, so a namespace found here may be another than the one that was remembered: look what is in it.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

Inode = tuple[int, int]  # device and number

_PROC = Path("/proc")


def living() -> dict[Inode, Path]:
    """Each with a path that leads to it. Takes 10 µs per thread of the machine, and a look at each mount table."""
    found: dict[Inode, Path] = {}
    mount_namespaces: dict[Inode, Path] = {}
    for task in _tasks():
        with contextlib.suppress(OSError):  # it ended meanwhile
            found.setdefault(_inode(task / "ns/net"), task / "ns/net")
            mount_namespaces.setdefault(_inode(task / "ns/mnt"), task)
    for task in mount_namespaces.values():
        with contextlib.suppress(OSError):
            for inode, place in mounted((task / "mountinfo").read_text(errors="replace")):
                found.setdefault(inode, task / "root" / place.lstrip("/"))
    return found


def _tasks() -> Iterator[Path]:
    for process in _PROC.iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                yield from (process / "task").iterdir()


def _inode(path: Path) -> Inode:
    found = path.stat()
    return found.st_dev, found.st_ino


def mounted(mountinfo: str) -> Iterator[tuple[Inode, str]]:
    """The network namespaces in a mount table, and where they are mounted (proc(5)): `… major:minor net:[inode] path … - nsfs …`."""
    for line in mountinfo.splitlines():
        fields = line.split()
        if len(fields) > 4 and fields[3].startswith("net:["):
            major, _, minor = fields[2].partition(":")
            # Blanks in a path are written in octal.
            place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
            yield (os.makedev(int(major), int(minor)), int(fields[3][5:-1])), place
