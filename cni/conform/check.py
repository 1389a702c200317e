"""A check: what is done, what the specification expects, and the function that does it in a world of its own."""

from collections.abc import Callable
from dataclasses import dataclass

from cni.conform.verdict import Finding, NotApplicable, Outcome, Verdict
from cni.conform.world import Subject, World
from cni.spec import parse_version
from dataplane.errors import DataplaneError


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    id: str
    clause: str
    done: str
    expected: str
    run: Callable[[World], Outcome]
    since: str = "0.1.0"
    """The version that brought what is checked: a plugin that does not advertise one as new is not asked."""


def carry_out(check: Check, subject: Subject) -> Finding:
    verdict, seen = _tried(check, subject)
    return Finding(
        id=check.id, clause=check.clause, done=check.done, expected=check.expected, seen=seen, verdict=verdict
    )


def _tried(check: Check, subject: Subject) -> tuple[Verdict, str]:
    if parse_version(subject.version) < parse_version(check.since):
        return Verdict.SKIPPED, f"{check.since} is not advertised"
    try:
        with World(subject) as world:
            seen = check.run(world)
    except NotApplicable as error:
        return Verdict.SKIPPED, error.reason
    except (Unprepared, DataplaneError, OSError) as error:
        return Verdict.FAIL, str(error)
    return (Verdict.FAIL if seen.problems else Verdict.PASS), str(seen)


class Unprepared(Exception):
    """A step before the one that is checked failed."""

    def __init__(self, step: str, problems: list[str]) -> None:
        super().__init__(step, problems)
        self.step, self.problems = step, problems

    def __str__(self) -> str:
        return f"not reached: {self.step}: {'; '.join(self.problems)}"


def require(step: str, problems: list[str]) -> None:
    if problems:
        raise Unprepared(step, problems)
