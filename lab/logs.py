"""How the lab's own processes log: one line of key=value to stderr, and reading the end of such a file."""

import logging
import sys
from pathlib import Path

import structlog

_TAIL_BYTES = 16384


def configure() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        # A reader that cannot reach its server says so at DEBUG every few seconds: hours of it would fill the disk.
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


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
