"""Network namespaces: entered by threads, named below /run/netns exactly as `ip netns` names them.

A namespace belongs to a thread, not to the process, so whatever must happen inside one runs in a thread that calls
setns and then ends. A socket opened there stays inside for good and may be used by any thread afterwards: that is how
the rest of the data plane reaches into a pod without a fork. Nothing here ever moves the caller's own thread.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from dataplane.errors import DataplaneError, NotFound, from_errno

T = TypeVar("T")

DIRECTORY = Path("/run/netns")
_OWN = "/proc/thread-self/ns/net"

CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
MNT_DETACH = 2  # include/uapi/linux/fs.h and mount.h
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SHARED = 0x100000
NSFS_MAGIC = 0x6E736673  # include/uapi/linux/magic.h
SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h, since Linux 5.14

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which namespace a path or descriptor means: two are the same namespace exactly when these are equal.

    A dead namespace's inode is handed out again; `cookie` tells such a pair apart, within one boot.
    """

    device: int
    inode: int


class Netns:
    """An open namespace: keeps it alive and reachable whatever becomes of the path it was opened by."""

    __slots__ = ("fd", "identity", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.identity = identity_of(fd)

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_netns(path: str | os.PathLike[str]) -> Netns:
    """Open the namespace at `path`. NotFound when nothing is there or what is there is no namespace any more."""
    text = os.fspath(path)
    try:
        fd = os.open(text, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise from_errno(f"open network namespace {text}", error.errno or 0) from error
    try:
        _require_namespace(text, fd)
        return Netns(text, fd)
    except BaseException:
        os.close(fd)
        raise


def _require_namespace(path: str, fd: int) -> None:
    # A name below /run/netns whose mount is gone is a plain empty file: its namespace no longer exists.
    buffer = ctypes.create_string_buffer(256)
    if _libc.fstatfs(fd, buffer):
        raise from_errno(f"statfs {path}", ctypes.get_errno())
    if ctypes.c_long.from_buffer(buffer).value != NSFS_MAGIC:
        raise NotFound(f"open network namespace {path}", detail="the file is there but no namespace is mounted on it")


def identity_of(fd: int) -> Identity:
    stat = os.fstat(fd)
    return Identity(device=stat.st_dev, inode=stat.st_ino)


def current_identity() -> Identity:
    """The identity of the calling thread's namespace."""
    stat = Path(_OWN).stat()
    return Identity(device=stat.st_dev, inode=stat.st_ino)


def cookie(netns_fd: int) -> int:
    """The number the kernel gave this namespace and gives no other until the machine reboots."""

    def ask() -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little")

    return run_in(netns_fd, ask)


def boot_id() -> str:
    """The machine's random name for the time since it booted."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def run_in(netns_fd: int, fn: Callable[[], T]) -> T:
    """Call `fn` in a thread that has entered the namespace; return or raise what it returns or raises."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def enter_and_call() -> None:
        try:
            _setns(netns_fd)
            outcome.append(fn())
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller's thread and is raised there
            failure.append(error)

    _in_thread(enter_and_call)
    if failure:
        raise failure[0]
    return outcome[0]


def _in_thread(target: Callable[[], None]) -> None:
    thread = threading.Thread(target=target, name="netns", daemon=True)
    thread.start()
    thread.join()


def _setns(netns_fd: int) -> None:
    if _libc.setns(netns_fd, CLONE_NEWNET):
        raise from_errno(f"setns to network namespace (descriptor {netns_fd})", ctypes.get_errno())


def create(name: str) -> Path:
    """Make a namespace that lives until `delete`, with its loopback down, as `ip netns add` does."""
    path = _path(name)
    _share_directory()
    try:
        path.open("x").close()
    except OSError as error:
        raise from_errno(f"create network namespace {path}", error.errno or 0) from error
    try:
        _mount_new_namespace(path)
    except BaseException:
        path.unlink()
        raise
    return path


def delete(name: str) -> None:
    """Remove the name; the namespace goes with its last process and socket. Absent is success."""
    path = _path(name)
    # EINVAL: a file without a mount, left over by a crash between the two steps of `create`.
    if _libc.umount2(os.fsencode(path), MNT_DETACH) and (code := ctypes.get_errno()) not in {
        errno.EINVAL,
        errno.ENOENT,
    }:
        raise from_errno(f"unmount network namespace {path}", code)
    path.unlink(missing_ok=True)


def _path(name: str) -> Path:
    if not name or name in {".", ".."} or "/" in name or "\0" in name:
        raise DataplaneError(f"network namespace name {name!r}", errno.EINVAL, detail="must be a single file name")
    return DIRECTORY / name


def _mount_new_namespace(path: Path) -> None:
    failure: list[DataplaneError] = []

    def unshare_and_bind() -> None:
        if _libc.unshare(CLONE_NEWNET):
            failure.append(from_errno("unshare a network namespace", ctypes.get_errno()))
        elif _libc.mount(os.fsencode(_OWN), os.fsencode(path), b"none", MS_BIND, None):
            failure.append(from_errno(f"bind mount {_OWN} on {path}", ctypes.get_errno()))

    _in_thread(unshare_and_bind)
    if failure:
        raise failure[0]


def _share_directory() -> None:
    """Let a namespace mounted below the directory be seen, and be unmountable, in every mount namespace.

    The same steps under the same lock as iproute2's, so that both may start at once.
    """
    DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _locked(DIRECTORY):
        target = os.fsencode(DIRECTORY)
        if not _libc.mount(b"", target, b"none", MS_SHARED | MS_REC, None):
            return
        # EINVAL: not a mount point yet.
        if _libc.mount(target, target, b"none", MS_BIND | MS_REC, None) or _libc.mount(
            b"", target, b"none", MS_SHARED | MS_REC, None
        ):
            raise from_errno(f"make {DIRECTORY} a shared mount", ctypes.get_errno())


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
