"""A lab's folder: what a second shell, or the next day, needs to know of it.

`lab.json` holds the few values everything else follows from. It is written before anything is made and removed after
everything is gone, so whatever half of a lab exists can be repaired or taken down. Commands that change a lab hold a
lock on its folder.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from dataplane import atomic_file
from ipam import cidrs
from lab import plan, spelling
from lab.errors import LabError, MissingLabError, OptionError
from lab.plan import Component, Lab, Runtime

_FILE = "lab.json"
_STOPPED = "stopped"


class _Saved(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    nodes: int
    api_port: int
    cluster_cidr: str
    service_cidr: str
    runtime: Runtime = "processes"


_SAVED: Final = msgspec.json.Decoder(_Saved)


def directory(state_root: Path, name: str) -> Path:
    return state_root.resolve() / plan.validate_name(name)


def load(state_root: Path, name: str) -> Lab:
    """Read a lab. Raises MissingLabError, or LabError when its file is damaged."""
    folder = directory(state_root, name)
    lab = load_directory(folder)
    if lab is None:
        raise MissingLabError(folder, others=names(state_root))
    return lab


def load_directory(folder: Path) -> Lab | None:
    path = folder / _FILE
    try:
        saved = _SAVED.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LabError(f"{path} is damaged: {error}", f"Remove the lab: {spelling.command('down', folder)}") from error
    return Lab(
        name=saved.name,
        directory=folder,
        node_count=saved.nodes,
        api_port=saved.api_port,
        cluster_cidrs=cidrs.parse(saved.cluster_cidr),
        service_cidrs=cidrs.parse(saved.service_cidr),
        runtime=saved.runtime,
    )


def save(lab: Lab) -> None:
    saved = _Saved(
        name=lab.name,
        nodes=lab.node_count,
        api_port=lab.api_port,
        cluster_cidr=cidrs.spell(lab.cluster_cidrs),
        service_cidr=cidrs.spell(lab.service_cidrs),
        runtime=lab.runtime,
    )
    atomic_file.write(lab.directory / _FILE, msgspec.json.format(msgspec.json.encode(saved)) + b"\n")


def names(state_root: Path) -> tuple[str, ...]:
    """Return the labs of this folder, damaged ones too."""
    return tuple(sorted(path.parent.name for path in state_root.glob(f"*/{_FILE}")))


def make_folders(lab: Lab) -> None:
    lab.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lab.logs.mkdir(exist_ok=True)
    for node in lab.nodes:
        node.directory.mkdir(parents=True, exist_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a lab's folder, and the folder of labs with the last one."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only command that changes this lab. Raises LabError when another one is at work."""
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(descriptor, folder)
            # `down` may have removed the folder between open and lock: then this lock is on nothing.
            if not _is_still(descriptor, folder):
                continue
            yield
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LabError(
            f"another podwire command is changing the lab {folder.name!r}", "Wait for it and repeat"
        ) from error


def _is_still(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


# --- What the supervisor is asked to leave stopped: one empty file per component, there for a second shell too.


def _stop_file(lab: Lab, component: Component) -> Path:
    return lab.directory / _STOPPED / component.file_name


def is_stopped(lab: Lab, component: Component) -> bool:
    return _stop_file(lab, component).exists()


def set_stopped(lab: Lab, component: Component, *, stopped: bool) -> None:
    path = _stop_file(lab, component)
    if stopped:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    else:
        path.unlink(missing_ok=True)


def free_port(first: int) -> int:
    """Return the first port from `first` on that nothing listens on at 127.0.0.1."""
    for port in range(first, first + 1000):
        if is_port_free(port):
            return port
    raise OptionError("--api-port", first, "neither it nor one of the next 1000 ports is free on 127.0.0.1")


def is_port_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server binds: an old connection in TIME_WAIT does not stand in its way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True
