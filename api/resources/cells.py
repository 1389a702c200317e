"""Cells of `kubectl get`, as a real cluster prints them (k8s.io/apimachinery duration, kubernetes printers)."""

from collections.abc import Mapping
from datetime import datetime

from api.model import Column, Object

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"

_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400

# Below `limit` seconds, a duration prints as whole `unit`s and, when `rest` is given, the remainder in `rest`s.
_STEPS = (
    (2 * _MINUTE, (1, "s"), None),
    (10 * _MINUTE, (_MINUTE, "m"), (1, "s")),
    (3 * _HOUR, (_MINUTE, "m"), None),
    (8 * _HOUR, (_HOUR, "h"), (_MINUTE, "m")),
    (48 * _HOUR, (_HOUR, "h"), None),
    (8 * _DAY, (_DAY, "d"), (_HOUR, "h")),
    (2 * _YEAR, (_DAY, "d"), None),
    (8 * _YEAR, (_YEAR, "y"), (_DAY, "d")),
)


def duration(seconds: float) -> str:
    """A span of time in at most two units: `45s`, `7m3s`, `5h12m`, `3d4h`."""
    if seconds < -1:
        return "<invalid>"
    whole = max(0, int(seconds))
    for limit, (unit, sign), rest in _STEPS:
        if whole < limit:
            remainder = whole % unit // rest[0] if rest else 0
            return f"{whole // unit}{sign}{remainder}{rest[1]}" if rest and remainder else f"{whole // unit}{sign}"
    return f"{whole // _YEAR}y"


def since(timestamp: str | None, now: datetime) -> str:
    """How long ago a timestamp of the API was."""
    if not timestamp:
        return UNKNOWN
    try:
        return duration((now - datetime.fromisoformat(timestamp)).total_seconds())
    except (ValueError, TypeError):  # not a timestamp, or one without a time zone
        return "<invalid>"


def pairs(labels: Mapping[str, str]) -> str:
    """Labels on one line, in their keys' order."""
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) or NONE


def _name(obj: Object, _now: datetime) -> str:
    return str(obj.get("metadata", {}).get("name", ""))


def _age(obj: Object, now: datetime) -> str:
    return since(obj.get("metadata", {}).get("creationTimestamp"), now)


NAME = Column("Name", "string", 0, _name)
AGE = Column("Age", "string", 0, _age)
