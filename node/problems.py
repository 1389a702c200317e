"""Problems are said once when they appear and once when they are over, however often they are found in between."""

import structlog

from node.members import Problem

log = structlog.get_logger(__name__)


class ProblemLog:
    """What is wrong now, by the part of the agent that found it."""

    def __init__(self) -> None:
        self._known: dict[str, frozenset[Problem]] = {}

    def report(self, part: str, problems: frozenset[Problem]) -> None:
        known = self._known.get(part, frozenset())
        self._known[part] = problems
        for problem in _ordered(problems - known):
            log.warning("problem with a node", part=part, node=problem.node, problem=problem.text)
        for problem in _ordered(known - problems):
            log.info("problem is over", part=part, node=problem.node, problem=problem.text)


def _ordered(problems: frozenset[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.node, problem.text))
