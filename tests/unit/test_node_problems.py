"""Problems are told once."""

import structlog

from node.members import Problem
from node.problems import ProblemLog

WRONG = Problem(node="two", text="has no address")
OTHER = Problem(node="three", text="has no address")


def told(*rounds: tuple[str, set[Problem]]) -> list[tuple[str, str]]:
    problems = ProblemLog()
    with structlog.testing.capture_logs() as logs:
        for part, found in rounds:
            problems.report(part, frozenset(found))
    return [(line["log_level"], line["node"]) for line in logs]


def test_a_problem_is_told_once_while_it_lasts() -> None:
    assert told(("routes", {WRONG}), ("routes", {WRONG}), ("routes", {WRONG, OTHER})) == [
        ("warning", "two"),
        ("warning", "three"),
    ]


def test_its_end_is_told() -> None:
    assert told(("routes", {WRONG}), ("routes", set()), ("routes", set())) == [("warning", "two"), ("info", "two")]


def test_a_problem_that_returns_is_told_again() -> None:
    assert [level for level, _ in told(("routes", {WRONG}), ("routes", set()), ("routes", {WRONG}))] == [
        "warning",
        "info",
        "warning",
    ]


def test_one_part_does_not_end_anothers_problem() -> None:
    assert told(("routes", {WRONG}), ("nodes", set())) == [("warning", "two")]
