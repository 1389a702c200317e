"""The switches below /proc/sys, named as sysctl(8) prints them with slashes: `net/ipv4/ip_forward`.

What stands below `net/` belongs to the namespace of the calling thread; `netns.run_in` reaches another one's.
"""

import errno
from pathlib import Path

from dataplane.errors import DataplaneError, from_errno

ROOT = Path("/proc/sys")


def read(name: str) -> str:
    """The value of a switch. NotFound when this kernel has no such switch."""
    path = _path(name)
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise _error(f"read {path}", error) from error


def write(name: str, value: str | int) -> bool:
    """Give a switch a value; return whether that changed it. One that already has it is not written."""
    if read(name) == str(value):
        return False
    path = _path(name)
    try:
        path.write_text(str(value), encoding="ascii")
    except OSError as error:
        raise _error(f"write {value} to {path}", error) from error
    return True


def _path(name: str) -> Path:
    if not name or ".." in name.split("/") or name.startswith("/"):
        raise DataplaneError(f"sysctl {name!r}", errno.EINVAL, detail="must be a path below /proc/sys")
    return ROOT / name


def _error(request: str, error: OSError) -> DataplaneError:
    detail = "this kernel has no such switch: is its module loaded?" if error.errno == errno.ENOENT else ""
    return from_errno(request, error.errno or 0, detail=detail)
