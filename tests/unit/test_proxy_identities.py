"""Ids, turns and the numbers behind them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.identities import NOBODY, Assignment, Identities, Member, Numbers, NumbersExhausted
from proxy.model import Target

IDS = range(100, 200)
POSITIONS = range(1, 50)


def targets(*lasts: int) -> list[Target]:
    return [Target(bytes((10, 244, 0, last)), 80) for last in lasts]


def lasts(assignment: Assignment) -> list[int]:
    return [member.target.packed[-1] for member in assignment.members]


@pytest.fixture
def identities() -> Identities:
    return Identities(IDS, POSITIONS)


# --- numbers


def test_a_returned_number_comes_up_again_after_all_others():
    numbers = Numbers(range(1, 5))
    first = numbers.take()
    numbers.give_back([first])

    assert [numbers.take() for _ in range(4)] == [2, 3, 4, first]


def test_runs_go_round_past_numbers_in_use():
    numbers = Numbers(range(1, 11))
    one, two = numbers.take(3), numbers.take(4)
    numbers.give_back(range(one, one + 3))

    assert (one, two) == (1, 4)
    assert numbers.take(2) == 8
    assert numbers.take(2) == 1


def test_when_no_run_is_long_enough_the_error_says_so():
    numbers = Numbers(range(1, 5))
    numbers.take(3)

    with pytest.raises(NumbersExhausted, match="no 2 consecutive numbers are free between 0x1 and 0x4"):
        numbers.take(2)


@pytest.mark.parametrize("claimed", [[1, 1], [0], [5], [2, 3]], ids=["twice", "below", "above", "in use"])
def test_a_claim_that_cannot_be_is_refused_as_a_whole(claimed):
    numbers = Numbers(range(1, 5))
    numbers.claim([3])

    assert not numbers.claim(claimed)
    assert numbers.claim([2])


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=60))
def test_no_number_is_ever_out_twice(steps):
    numbers, out = Numbers(range(1, 30)), []
    for gives_back, length in steps:
        if gives_back and out:
            numbers.give_back(out.pop(0))
            continue
        try:
            first = numbers.take(length)
        except NumbersExhausted:
            continue
        run = range(first, first + length)
        assert all(set(run).isdisjoint(other) for other in out)
        out.append(run)


# --- assignments


def test_who_is_first_is_for_the_caller_to_choose(identities):
    orders = [lasts(identities.assign(NOBODY, targets(1, 2, 3), ring=True, start=start)) for start in (0, 1, 5)]

    assert orders == [[1, 2, 3], [2, 3, 1], [3, 1, 2]]


def test_while_the_number_stays_those_who_stay_keep_their_turn(identities):
    old = identities.assign(NOBODY, targets(1, 2, 3), ring=True)
    new = identities.assign(old, targets(1, 3, 9), ring=True)

    assert lasts(new) == [1, 9, 3]
    assert new.first == old.first


def test_with_another_number_the_next_is_first_in_a_new_ring(identities):
    old = identities.assign(NOBODY, targets(1, 2, 3), ring=True)
    new = identities.assign(old, targets(1, 2, 3, 4), ring=True)

    assert lasts(new) == [2, 3, 4, 1]
    assert set(new.positions).isdisjoint(old.positions)


def test_without_a_ring_no_position_is_taken(identities):
    assert identities.assign(NOBODY, targets(1), ring=False).first is None


def test_numbers_go_back_by_the_difference(identities):
    old = identities.assign(NOBODY, targets(1, 2), ring=True)
    new = identities.assign(old, targets(2, 3, 4), ring=True)
    identities.release(old, new)

    assert identities._ids._taken == set(new.ids)
    assert identities._positions._taken == set(new.positions)


def test_what_is_adopted_is_kept(identities):
    found = Assignment(tuple(Member(target, 150 + n) for n, target in enumerate(targets(1, 2))), 20)
    adopted = identities.adopt(found)
    new = identities.assign(adopted, targets(2, 1), ring=True)

    assert new == found


def test_an_id_somebody_else_has_is_not_adopted(identities):
    (target,) = targets(1)
    identities.adopt(Assignment((Member(target, 150),)))

    assert identities.adopt(Assignment((Member(target, 150),))) == NOBODY


def test_a_ring_somebody_else_has_is_not_adopted_but_the_ids_are(identities):
    one, two = ([Member(target, number + n) for n, target in enumerate(targets(1, 2))] for number in (150, 160))
    identities.adopt(Assignment(tuple(one), 20))

    assert identities.adopt(Assignment(tuple(two), 21)) == Assignment(tuple(two))


def test_numbers_seen_in_the_kernel_are_not_handed_out_next(identities):
    identities.skip(ids=[150, 7], positions=[20])
    new = identities.assign(NOBODY, targets(1, 2), ring=True)

    assert min(new.ids) > 150
    assert new.first == 21
