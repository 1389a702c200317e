"""A file that others read at any moment: it appears and changes in one step, and survives a power cut."""

import contextlib
import os
from pathlib import Path


def read(path: Path) -> bytes:
    """The content; empty when the file is absent."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def write(path: Path, content: bytes) -> None:
    """Prepare the content beside the file, under a name that readers of the folder skip, and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prepared = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with prepared.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        prepared.replace(path)
    except BaseException:
        prepared.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
