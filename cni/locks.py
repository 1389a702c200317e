"""One call at a time per attachment, whichever process or thread it runs in.

A runtime that lost patience with an ADD may send the DEL while the ADD still runs in the agent. The lock is an open
file description lock on one byte of one file: threads exclude each other as well as processes, and the kernel drops
it with the process, so a kill -9 never leaves one behind.
"""

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cni.spec import CniError, Code
from ipam.lease import Attachment

FILE = "attachments.lock"
PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.005
_OFFSET_MASK = (1 << 62) - 1  # off_t is signed
_FLOCK = "hhqqi4x"  # struct flock of the 64-bit ABIs: type, whence, start, length, pid


@contextmanager
def attachment_lock(directory: Path, attachment: Attachment, *, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold the attachment. Raises CniError 11 when somebody else keeps it for longer than `patience` seconds."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(directory / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait(fd, attachment, patience)
        yield
    finally:
        os.close(fd)


def _wait(fd: int, attachment: Attachment, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not _try(fd, attachment):
        if time.monotonic() >= deadline:
            msg = f"another call for {attachment} has been running for {patience:g} s"
            raise CniError(Code.TRY_AGAIN_LATER, msg, "try again when it has ended")
        time.sleep(_POLL_SECONDS)


def _try(fd: int, attachment: Attachment) -> bool:
    offset = int.from_bytes(attachment.digest[:8], "big") & _OFFSET_MASK
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0))
    except BlockingIOError:
        return False
    return True
