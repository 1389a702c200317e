"""Reading the end of a log."""

from pathlib import Path

_TAIL_BYTES = 16384


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
