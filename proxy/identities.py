"""Numbers that stay: the id of an endpoint while it lives, and a Service port's place in the ring.

An endpoint id is the conntrack mark of its connections and the counter of their number, so it outlives every change
around it; it is not given to anybody else before all others have been used. A ring is a run of positions that one
`numgen inc` rule walks through. While the number of endpoints stays, the rule stays and with it the kernel's counter:
only what stands at the positions changes. With another number the rule is new and its counter starts over, so the new
ring starts one endpoint further on: churn never favours the first.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from proxy.model import Target


class NumbersExhausted(RuntimeError):
    """There is no free run of that length; hundreds of millions would have to be in use."""

    def __init__(self, numbers: range, length: int) -> None:
        super().__init__(numbers, length)
        self.numbers = numbers
        self.length = length

    def __str__(self) -> str:
        return f"no {self.length} consecutive numbers are free between {self.numbers[0]:#x} and {self.numbers[-1]:#x}"


class Numbers:
    """Hands out runs of numbers, going round: a returned number comes up again after all the others."""

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers
        self._next = numbers.start
        self._taken: set[int] = set()

    def take(self, length: int = 1) -> int:
        """Return the first number of a free run."""
        for start in (self._next, self._numbers.start):
            first = self._free_run(start, length)
            if first is not None:
                self._next = first + length
                self._taken.update(range(first, first + length))
                return first
        raise NumbersExhausted(self._numbers, length)

    def claim(self, numbers: Sequence[int]) -> bool:
        """Take exactly these, found in use in the kernel. False, and nothing taken, if they are not free."""
        wanted = set(numbers)
        if len(wanted) != len(numbers) or not self._taken.isdisjoint(wanted):
            return False
        if any(number not in self._numbers for number in wanted):
            return False
        self._taken |= wanted
        self.skip(wanted)
        return True

    def skip(self, numbers: Iterable[int]) -> None:
        """Go on after these: whoever had them is remembered somewhere, if only by connections."""
        self._next = max([self._next, *(number + 1 for number in numbers if number in self._numbers)])

    def give_back(self, numbers: Iterable[int]) -> None:
        self._taken.difference_update(numbers)

    def _free_run(self, start: int, length: int) -> int | None:
        while start + length <= self._numbers.stop:
            run = range(start, start + length)
            if self._taken.isdisjoint(run):
                return start
            start = max(number for number in run if number in self._taken) + 1
        return None


class Member(NamedTuple):
    """An endpoint and its id."""

    target: Target
    id: int


class Assignment(msgspec.Struct, frozen=True):
    """A Service port's endpoints in the order of their turns; `first` is the ring position of the first, if it has a ring.

    An endpoint that weighs more than others stands there more than once.
    """

    members: tuple[Member, ...] = ()
    first: int | None = None

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(member.id for member in self.members)

    @property
    def positions(self) -> range:
        return range(0) if self.first is None else range(self.first, self.first + len(self.members))


NOBODY = Assignment()


class Identities:
    """All ids and ring positions in use, by anyone."""

    def __init__(self, ids: range, positions: range) -> None:
        self._ids = Numbers(ids)
        self._positions = Numbers(positions)

    def assign(self, old: Assignment, targets: Sequence[Target], *, ring: bool, start: int = 0) -> Assignment:
        """Give every target its id and its turn; `start` chooses who is first where no turn was taken yet.

        What is new in the result is taken; `release` whichever of `old` and the result is not kept.
        """
        order = _order(old, targets, start)
        ids = {member.target: member.id for member in old.members}
        for target in order:
            if target not in ids:
                ids[target] = self._ids.take()
        members = tuple(Member(target, ids[target]) for target in order)
        if not ring or not members:
            return Assignment(members)
        keeps_ring = old.first is not None and len(old.members) == len(members)
        return Assignment(members, old.first if keeps_ring else self._positions.take(len(members)))

    def adopt(self, found: Assignment) -> Assignment:
        """Take over what an earlier run left in the kernel, as far as nobody else has it."""
        if not self._ids.claim(sorted(found.ids)):
            return NOBODY
        if self._positions.claim(found.positions):
            return found
        return Assignment(found.members)

    def release(self, dropped: Assignment, kept: Assignment) -> None:
        """Give back what `dropped` has and `kept` has not."""
        self._ids.give_back(dropped.ids - kept.ids)
        self._positions.give_back(set(dropped.positions).difference(kept.positions))

    def skip(self, *, ids: Iterable[int], positions: Iterable[int]) -> None:
        """Do not hand these out soon."""
        self._ids.skip(ids)
        self._positions.skip(positions)


def _order(old: Assignment, targets: Sequence[Target], start: int) -> list[Target]:
    wanted = set(targets)
    if len(wanted) < len(targets) or len(old.ids) < len(old.members):
        return _weighted_order(old, list(targets), start)
    before = {member.target for member in old.members}
    stayed = [member.target for member in old.members if member.target in wanted]
    added = [target for target in targets if target not in before]
    if not stayed:
        return _rotated(list(targets), start)
    if len(old.members) == len(targets):
        newcomers = iter(added)
        return [member.target if member.target in wanted else next(newcomers) for member in old.members]
    return _rotated([*stayed, *added], 1)


def _weighted_order(old: Assignment, targets: list[Target], start: int) -> list[Target]:
    """The turns are given; the same ones stay as they are, others begin one further on than before."""
    before = [member.target for member in old.members]
    if Counter(before) == Counter(targets):
        return before
    return _rotated(targets, (targets.index(before[0]) if before and before[0] in targets else start) + 1)


def _rotated(targets: list[Target], by: int) -> list[Target]:
    by = by % len(targets) if targets else 0
    return targets[by:] + targets[:by]
