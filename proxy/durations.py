"""Go's durations, as Kubernetes' configuration files and kube-proxy's flags spell them: `1h30m`, `500ms`, `0s`."""

import re
from typing import Any, Final

_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_WHOLE: Final = re.compile(rf"[+-]?(?:{_PART.pattern})+")


class Duration(float):
    """Seconds."""

    __slots__ = ()


def parse(text: str) -> Duration:
    """Read Go's spelling. Raises ValueError."""
    if text in {"0", "+0", "-0"}:
        return Duration(0)
    if not _WHOLE.fullmatch(text):
        raise ValueError("use a duration such as 30s, 5m or 24h")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    return Duration(-seconds if text.startswith("-") else seconds)


def parse_duration(_kind: type, value: Any) -> Duration:
    """For msgspec: a duration in a file is a string."""
    if not isinstance(value, str):
        raise TypeError("use a duration such as 30s, 5m or 24h")
    return parse(value)


def format_duration(value: Any) -> str:
    """For msgspec: as Go prints it, but fractions of a second in decimals."""
    minutes, seconds = divmod(float(value), 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = ((hours, "h"), (minutes, "m"), (round(seconds, 9), "s"))
    return "".join(f"{number:g}{unit}" for number, unit in parts if number) or "0s"
