"""Files that programs append to and nobody else bounds.

Whoever writes keeps its descriptor, so the file cannot be replaced under it: its end is copied beside it and the file
is cut to nothing. A writer that appends (O_APPEND) goes on at the start. What it writes between the two is lost, which
is a line or two in many megabytes.
"""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

LARGEST: Final = 10 << 20  # bytes; a log and its predecessor hold twice that


def predecessor(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def is_long(path: Path, *, largest: int = LARGEST) -> bool:
    try:
        return path.stat().st_size > largest
    except OSError:
        return False


def trim(path: Path, *, largest: int = LARGEST) -> bool:
    """Move the content of a long file into its predecessor; say whether it was long. A full disk loses the content."""
    if not is_long(path, largest=largest):
        return False
    with path.open("r+b") as file:
        with contextlib.suppress(OSError), predecessor(path).open("wb") as kept:
            file.seek(max(0, os.fstat(file.fileno()).st_size - largest))
            shutil.copyfileobj(file, kept)
        file.truncate(0)
    return True
