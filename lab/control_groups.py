"""What containers are accounted for in, and what nobody removes when all of them end at once."""

import time
from pathlib import Path
from typing import Final

from lab.errors import LabError

_ROOT: Final = Path("/sys/fs/cgroup")
_PATIENCE: Final = 5.0  # seconds for the kernel to bury killed processes, which keeps their group busy


def remove(name: str) -> None:
    """Remove the groups of this name and those below, in each hierarchy. Raises LabError."""
    # Version 2 has one hierarchy, version 1 one for each controller.
    for top in (*_ROOT.glob(name), *_ROOT.glob(f"*/{name}")):
        below = sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True)
        for path in (*below, top):
            _remove(path)


def _remove(path: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise LabError(f"the control group {path} cannot be removed: {error.strerror}") from error
            time.sleep(0.02)
        else:
            return
