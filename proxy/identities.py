"""Numbers that stay: the id of an endpoint while it lives, and a Service port's place in the ring.

An endpoint id is the conntrack mark of its connections and the counter of their number, so it outlives every change
around it. The ids of a Service port's endpoints are out of one share, so that an id also tells which Service port it
belongs to: what the first id of the share, which no endpoint gets, stands for. An id is not given to anybody else before
all others of its share have been used. A ring is a run of positions that one
`numgen inc` rule walks through. While the number of endpoints stays, the rule stays and with it the kernel's counter:
only what stands at the positions changes. With another number the rule is new and its counter starts over, so the new
ring starts one endpoint further on: churn never favours the first.

As long as nothing has changed since a Service port came, its ids follow one another in the order of the turns. Then they
are the positions, and nothing need stand at one before somebody else takes the turn of that id.
"""

from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from itertools import chain
from typing import TypeVar

import msgspec

from proxy.model import Target

K = TypeVar("K", bound=Hashable)


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
        if not numbers:
            return True
        wanted, last = set(numbers), max(numbers)
        if len(wanted) != len(numbers) or not self._taken.isdisjoint(wanted):
            return False
        if min(numbers) not in self._numbers or last not in self._numbers:
            return False
        self._taken |= wanted
        self._next = max(self._next, last + 1)
        return True

    def skip(self, numbers: Iterable[int]) -> None:
        """Go on after these: whoever had them is remembered somewhere, if only by connections."""
        last = max(filter(self._numbers.__contains__, numbers), default=-1)
        self._next = max(self._next, last + 1)

    def give_back(self, numbers: Iterable[int]) -> None:
        self._taken.difference_update(numbers)

    def _free_run(self, start: int, length: int) -> int | None:
        while start + length <= self._numbers.stop:
            run = range(start, start + length)
            if self._taken.isdisjoint(run):
                return start
            start = max(number for number in run if number in self._taken) + 1
        return None


class Member(msgspec.Struct, frozen=True, gc=False):
    """An endpoint and its id."""

    target: Target
    id: int


class Ring(Enum):
    """What positions a set of endpoints needs to take turns."""

    NONE = auto()
    ANY = auto()
    OWN = auto()
    """Not ids: what a client is kept at is looked up as a position too, and two sets of a Service port have the same ids."""


class Assignment(msgspec.Struct, frozen=True):
    """A Service port's endpoints in the order of their turns; `first` is the ring position of the first, if it has a ring.

    With `by_id` the positions are ids of its share. An endpoint that weighs more than others stands there more than once.
    """

    members: tuple[Member, ...] = ()
    first: int | None = None
    by_id: bool = False

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(member.id for member in self.members)

    @property
    def positions(self) -> range:
        return range(0) if self.first is None else range(self.first, self.first + len(self.members))

    @property
    def places(self) -> list[tuple[int, int]]:
        """The positions at which another number than their own must stand, each with the id there."""
        turns = zip(self.positions, self.members, strict=False)
        return [(position, member.id) for position, member in turns if position != member.id]

    def stands_for(self, targets: Sequence[Target], *, ring: Ring) -> bool:
        """Whether it is just these targets, each once, with such a ring."""
        if len(self.members) != len(targets) or (ring is Ring.NONE) is (self.first is not None):
            return False
        if ring is Ring.OWN and self.by_id:
            return False
        wanted = set(targets)
        return len(wanted) == len(targets) and wanted == {member.target for member in self.members}


NOBODY = Assignment()


class Identities:
    """All ids and ring positions in use, by anyone. `ids` are handed out in shares of that many, one a Service port."""

    def __init__(self, ids: range, positions: range, *, share: int) -> None:
        self._size = share
        self._shares = Numbers(range(ids.start // share, ids.stop // share))
        self._first_share = ids.start // share
        # Where to go on in each share. No set of the ids in use: the Service port itself knows them.
        self._next = array("H", bytes(2 * (ids.stop // share - self._first_share)))
        self._positions = Numbers(positions)

    def identify(self, known: Mapping[Target, int], targets: Iterable[Target]) -> Mapping[Target, int]:
        """The ids of one Service port: those known, and new ones of its share for the targets that have none.

        A share that is full is followed by another.
        """
        newcomers = dict.fromkeys([target for target in targets if target not in known])
        if not known and 0 < len(newcomers) < self._size:
            return dict(zip(newcomers, self._first_ids(len(newcomers)), strict=True))
        return {**known, **dict(zip(newcomers, self._free(frozenset(known.values())), strict=False))}

    def assign(
        self, old: Assignment, ids: Mapping[Target, int], targets: Sequence[Target], *, ring: Ring
    ) -> Assignment:
        """Give every target its turn, in the order given where no turn was taken yet.

        What is new in the result is taken; `release` whichever of `old` and the result is not kept.
        """
        if old.stands_for(targets, ring=ring):
            return old
        members = tuple([Member(target, ids[target]) for target in _order(old, targets)])
        if ring is Ring.NONE or not members:
            return Assignment(members)
        if old.first is not None and len(old.members) == len(members) and not (old.by_id and ring is Ring.OWN):
            return Assignment(members, old.first, old.by_id)
        if ring is Ring.ANY and _follow_one_another(members):
            return Assignment(members, members[0].id, by_id=True)
        return Assignment(members, self._positions.take(len(members)))

    def begin(self, targets: Sequence[Target], *, ring: Ring) -> Assignment:
        """The first assignment of a Service port, to targets that are each there once: `identify` and `assign` at once."""
        if ring is Ring.OWN or not 0 < len(targets) < self._size:
            return self.assign(NOBODY, self.identify({}, targets), targets, ring=ring)
        ids = self._first_ids(len(targets))
        members = tuple([Member(target, id_) for target, id_ in zip(targets, ids, strict=True)])
        return Assignment(members) if ring is Ring.NONE else Assignment(members, ids.start, by_id=True)

    def adopt_whole(self, found: Assignment) -> bool:
        """Take over one assignment, in which each id and target is there once. False, and nothing taken, if that cannot be.

        All that stands in the kernel must have been skipped before.
        """
        shares = self._shares_of([found])
        if any(member.id % self._size == 0 for member in found.members) or not self._shares.claim(tuple(shares)):
            return False
        if found.by_id or self._positions.claim(found.positions):
            return True
        self._shares.give_back(shares)
        return False

    def adopt(self, found: Mapping[K, Assignment]) -> dict[K, Assignment]:
        """Take over what an earlier run left in the kernel for one Service port, as far as nobody else has it.

        All that stands in the kernel must have been skipped before.
        """
        members = [member for assignment in found.values() for member in assignment.members]
        targets = {member.id: member.target for member in members}
        are_one = len(targets) == len(members) or all(targets[member.id] == member.target for member in members)
        is_sound = (
            are_one and len(set(targets.values())) == len(targets) and 0 not in {id_ % self._size for id_ in targets}
        )
        if not is_sound or not self._shares.claim(sorted(self._shares_of(found.values()))):
            return dict.fromkeys(found, NOBODY)
        return {
            key: each if each.by_id or self._positions.claim(each.positions) else Assignment(each.members)
            for key, each in found.items()
        }

    def release(self, dropped: Iterable[Assignment], kept: Iterable[Assignment]) -> None:
        """Give back what `dropped` have and `kept` have not; all of one Service."""
        kept = tuple(kept)
        dropped = [assignment for assignment in dropped if not any(assignment is other for other in kept)]
        if not dropped:
            return
        self._shares.give_back(self._shares_of(dropped) - self._shares_of(kept))
        still = {assignment.first for assignment in kept}
        for assignment in dropped:
            if assignment.first not in still and not assignment.by_id:
                self._positions.give_back(assignment.positions)

    def skip(self, *, ids: Iterable[int], positions: Iterable[int]) -> None:
        """Do not hand these out soon."""
        last = {number // self._size: number % self._size for number in sorted(ids)}
        shares = [share for share in last if 0 <= share - self._first_share < len(self._next)]
        for share in shares:
            index = share - self._first_share
            self._next[index] = max(self._next[index], last[share])
        self._shares.skip(shares)
        self._positions.skip(positions)

    def _shares_of(self, assignments: Iterable[Assignment]) -> set[int]:
        """Those of their ids, and of the positions that are ids."""
        shares: set[int] = set()
        for assignment in assignments:
            shares.update([member.id // self._size for member in assignment.members])
            if assignment.by_id:
                shares.update([position // self._size for position in assignment.positions])
        return shares

    def _free(self, used: frozenset[int]) -> Iterator[int]:
        return chain.from_iterable(self._free_in(share, used) for share in self._shares_for(used))

    def _shares_for(self, used: frozenset[int]) -> Iterator[int]:
        """Those that ids in use are of, then new ones."""
        yield from sorted({number // self._size for number in used})
        while True:
            yield self._new_share()

    def _first_ids(self, count: int) -> range:
        """The first of a new share."""
        share = self._new_share()
        self._next[share - self._first_share] = count
        return range(share * self._size + 1, share * self._size + 1 + count)

    def _new_share(self) -> int:
        share = self._shares.take()
        self._next[share - self._first_share] = 0
        return share

    def _free_in(self, share: int, used: frozenset[int]) -> Iterator[int]:
        index, base = share - self._first_share, share * self._size
        last = self._next[index]
        for slot in chain(range(last + 1, self._size), range(1, last + 1)):
            if base + slot not in used:
                self._next[index] = slot
                yield base + slot


def _follow_one_another(members: Sequence[Member]) -> bool:
    first = members[0].id
    return all(member.id == first + index for index, member in enumerate(members))


def _order(old: Assignment, targets: Sequence[Target]) -> list[Target]:
    if not old.members:
        return list(targets)
    wanted = set(targets)
    if len(wanted) < len(targets) or len(old.ids) < len(old.members):
        return _weighted_order(old, list(targets))
    before = {member.target for member in old.members}
    stayed = [member.target for member in old.members if member.target in wanted]
    added = [target for target in targets if target not in before]
    if not stayed:
        return list(targets)
    if len(old.members) == len(targets):
        newcomers = iter(added)
        return [member.target if member.target in wanted else next(newcomers) for member in old.members]
    return rotated([*stayed, *added], 1)


def _weighted_order(old: Assignment, targets: list[Target]) -> list[Target]:
    """The turns are given; the same ones stay as they are, others begin one further on than before."""
    before = [member.target for member in old.members]
    if Counter(before) == Counter(targets):
        return before
    return rotated(targets, (targets.index(before[0]) if before and before[0] in targets else 0) + 1)


def rotated(targets: Sequence[Target], by: int) -> list[Target]:
    """The same from the one at `by` on, as often round as that takes."""
    by = by % len(targets) if targets else 0
    return [*targets[by:], *targets[:by]]
