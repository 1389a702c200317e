"""What a check found, and the scorecard of all of them. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    SKIPPED = "skipped"


class NotApplicable(Exception):
    """The plugin or its configuration does not offer what the check is about."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was seen, and what of it is wrong."""

    seen: str
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join(self.problems) if self.problems else self.seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the scorecard."""

    id: str
    clause: str
    done: str
    expected: str
    seen: str
    verdict: Verdict

    def to_dict(self) -> dict[str, str]:
        return {
            "id": self.id,
            "clause": self.clause,
            "done": self.done,
            "expected": self.expected,
            "seen": self.seen,
            "verdict": self.verdict.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """Every finding about one plugin."""

    plugin: str
    versions: tuple[str, ...]
    conf: Mapping[str, Any]
    findings: tuple[Finding, ...]

    def count(self, verdict: Verdict) -> int:
        return Counter(finding.verdict for finding in self.findings)[verdict]

    @property
    def is_conforming(self) -> bool:
        return self.count(Verdict.FAIL) == 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "plugin": self.plugin,
            "supportedVersions": list(self.versions),
            "configuration": dict(self.conf),
            "counts": {verdict.value: self.count(verdict) for verdict in Verdict},
            "findings": [finding.to_dict() for finding in self.findings],
        }


def outcome(seen: object, problems: Sequence[str] = ()) -> Outcome:
    """Whatever went wrong, each problem once."""
    return Outcome(seen=str(seen), problems=tuple(dict.fromkeys(problems)))
