"""What the demo found out, as values that know whether they are as promised. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

LONGEST_WITHDRAWAL = 1.0  # seconds a deleted pod may go on answering


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Who answered a request; `failure` says why nobody did, and then the rest is empty."""

    pod: str = ""
    node: str = ""
    client: str = ""
    failure: str = ""


class Finding(Protocol):
    """One row of the demo's tables."""

    @property
    def is_as_promised(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Consecutive requests of one client to one ClusterIP, and the endpoints that should share them in strict turn."""

    client: str
    node: str
    protocol: str
    answers: tuple[Answer, ...]
    endpoints: frozenset[str]

    @property
    def is_as_promised(self) -> bool:
        return is_strict_turn([answer.pod for answer in self.answers], self.endpoints)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """Consecutive requests of one client to a Service with ClientIP affinity."""

    client: str
    node: str
    answers: tuple[Answer, ...]

    @property
    def is_as_promised(self) -> bool:
        return len({answer.pod for answer in self.answers}) == 1 and not any(each.failure for each in self.answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """A pod deleted while a client keeps asking. Times in seconds; `returned` and `last_answer` since kubectl started."""

    pod: str
    returned: float
    last_answer: float  # of the deleted pod
    requests: int
    failed: int
    left: frozenset[str]  # who answered afterwards
    endpoints: frozenset[str]  # who should have

    @property
    def late(self) -> float:
        """Seconds the pod still answered after kubectl said it was deleted."""
        return max(0.0, self.last_answer - self.returned)

    @property
    def is_as_promised(self) -> bool:
        return self.late <= LONGEST_WITHDRAWAL and not self.failed and self.left == self.endpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class Pings:
    """One row of the matrix: round trips in milliseconds from a pod to all pods and nodes, None for no answer."""

    source: str
    round_trips: tuple[tuple[str, float | None], ...]

    @property
    def is_as_promised(self) -> bool:
        return all(milliseconds is not None for _, milliseconds in self.round_trips)


def is_strict_turn(answers: Sequence[str], endpoints: frozenset[str]) -> bool:
    """Say whether all endpoints answered, each exactly once in every round and always in the same order."""
    size = len(endpoints)
    if len(answers) < size or frozenset(answers[:size]) != endpoints:
        return False
    return all(answer == answers[position % size] for position, answer in enumerate(answers))
