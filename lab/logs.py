"""The logs of a lab: where they are, and what their ends say."""

import re
from pathlib import Path
from typing import Final

from lab.plan import Lab, NodePlan

_TAIL_BYTES: Final = 16384
# A container runtime's line begins with the time, the stream and whether the line is whole.
_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\S+ (?:stdout|stderr) [FP] ")


def of_container(lab: Lab, node: NodePlan, uid: str, container: str) -> Path:
    if lab.runtime == "containerd":
        return node.pod_logs / uid / f"{container}.log"
    return node.pod_logs / f"{uid}.{container}.log"


def said(line: str) -> str:
    """Return what a program wrote, without what its container runtime put before it."""
    return line[stamp.end() :] if (stamp := _STAMP.match(line)) else line


def tail(path: Path, lines: int) -> tuple[str, ...]:
    """Return the last lines of a log; none when there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-lines:])
