"""A file that others read at any moment: it appears and changes in one step, and survives a power cut."""

import contextlib
import os
import secrets
from pathlib import Path


def read(path: Path) -> bytes:
    """The content; empty when the file is absent."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def write(path: Path, content: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Prepare the content beside the file, under a name that readers of the folder skip, and rename it.

    A reader, and the next start after this process died, finds the old content or the new; with `durable` also the
    next start of the machine. Missing folders are made. `mode` holds whatever the umask is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_draft(draft, content, mode, durable=durable)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if durable:
        _sync_directory(path.parent)


def _write_draft(draft: Path, content: bytes, mode: int, *, durable: bool) -> None:
    # Created private: a secret must not be readable before its mode is set.
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(content)
        file.flush()
        if durable:
            os.fsync(fd)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
