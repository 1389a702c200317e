"""Ids, turns and the numbers behind them."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.identities import NOBODY, Assignment, Identities, Member, Numbers, NumbersExhausted, Ring, rotated
from proxy.model import InvalidService, Target
from proxy.planning import Planner
from proxy.served import NOT_SERVED
from tests.services import World, endpoint_slice, named, service

IDS, SHARE = range(100, 200), 10
POSITIONS = range(1, 50)


def targets(*lasts: int) -> list[Target]:
    return [Target(bytes((10, 244, 0, last)), 80) for last in lasts]


def lasts(assignment: Assignment) -> list[int]:
    return [member.target.packed[-1] for member in assignment.members]


@pytest.fixture
def identities() -> Identities:
    return Identities(IDS, POSITIONS, share=SHARE)


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


# --- ids


def identify(identities: Identities, old: Assignment, wanted: list[Target], ring: Ring = Ring.OWN) -> Assignment:
    """The ids and turns of a Service port with one set of endpoints."""
    ids = identities.identify({member.target: member.id for member in old.members}, wanted)
    return identities.assign(old, ids, wanted, ring=ring)


def test_the_ids_of_a_service_port_are_one_share(identities):
    one, two = (sorted(identities.identify({}, targets(1, 2, 3)).values()) for _ in range(2))

    assert (one, two) == ([101, 102, 103], [111, 112, 113])


def test_an_id_is_not_given_again_before_all_others_of_its_share(identities):
    known = dict(identities.identify({}, targets(1)))
    given = []
    for last in range(2, 12):
        (target,) = targets(last)
        given.append(identities.identify(known, [target])[target])

    assert given == [102, 103, 104, 105, 106, 107, 108, 109, 102, 103]


def test_a_share_that_is_full_is_followed_by_another(identities):
    ids = identities.identify({}, targets(*range(1, 13)))

    assert sorted(ids.values()) == [*range(101, 110), 111, 112, 113]
    assert identities.identify(ids, targets(20))[targets(20)[0]] == 114


def test_a_share_given_back_comes_up_again_after_all_others(identities):
    first = identify(identities, NOBODY, targets(1))
    identities.release([first], [])
    shares = [min(identify(identities, NOBODY, targets(n)).ids) // SHARE for n in range(10)]

    assert shares == [11, 12, 13, 14, 15, 16, 17, 18, 19, 10]


def test_a_service_for_which_no_ids_are_left_costs_nobody_else_anything():
    world = World()
    for number in range(3):
        world.put(service(f"s{number}", f"10.96.0.{number}"), endpoint_slice(f"s{number}", ["10.244.0.2"]))
    planner = Planner(world, node="node1", family="IPv4")
    planner._identities = Identities(range(100, 120), POSITIONS, share=SHARE)
    planner.draft(named("s0"), NOT_SERVED)
    planner.draft(named("s1"), NOT_SERVED)

    with pytest.raises(InvalidService, match=r"default/s2: spec.ports 'http': no 1 consecutive numbers are free"):
        planner.draft(named("s2"), NOT_SERVED)


# --- assignments


def test_who_is_first_is_for_the_caller_to_choose(identities):
    orders = [rotated(targets(1, 2, 3), start) for start in (0, 1, 5)]
    assigned = [identify(identities, NOBODY, order) for order in orders]

    assert [lasts(each) for each in assigned] == [[1, 2, 3], [2, 3, 1], [3, 1, 2]]


def test_ids_that_follow_one_another_are_the_positions(identities):
    new = identify(identities, NOBODY, targets(5, 6, 4), Ring.ANY)

    assert (new.positions, new.places) == (range(101, 104), [])
    assert identities._positions._taken == set()


def test_where_ids_are_the_positions_only_a_newcomer_needs_a_place(identities):
    old = identify(identities, NOBODY, targets(1, 2, 3), Ring.ANY)
    new = identify(identities, old, targets(1, 3, 9), Ring.ANY)

    assert (lasts(new), new.positions, new.places) == ([1, 9, 3], old.positions, [(102, 104)])


def test_a_set_with_another_number_of_endpoints_has_positions_of_its_own(identities):
    old = identify(identities, NOBODY, targets(1, 2, 3), Ring.ANY)
    new = identify(identities, old, targets(1, 2, 3, 4), Ring.ANY)

    assert (lasts(new), new.positions, len(new.places)) == ([2, 3, 4, 1], range(1, 5), 4)


def test_a_set_that_needs_positions_of_its_own_does_not_keep_ids_for_them(identities):
    old = identify(identities, NOBODY, targets(1, 2, 3), Ring.ANY)
    new = identify(identities, old, targets(1, 2, 3), Ring.OWN)

    assert (lasts(new), new.positions) == ([1, 2, 3], range(1, 4))


def test_a_share_whose_ids_are_positions_is_kept_when_all_its_endpoints_have_gone(identities):
    old = identify(identities, NOBODY, targets(1), Ring.ANY)
    new = Assignment((Member(targets(2)[0], 115),), old.first, by_id=True)
    identities.release([old], [new])

    assert identities._shares._taken == {10}


def test_positions_that_are_ids_are_adopted_with_their_share(identities):
    found = {"all": Assignment((Member(targets(1)[0], 115), Member(targets(2)[0], 112)), 101, by_id=True)}

    assert identities.adopt(found) == found
    assert identities._shares._taken == {10, 11}


def test_while_the_number_stays_those_who_stay_keep_their_turn(identities):
    old = identify(identities, NOBODY, targets(1, 2, 3))
    new = identify(identities, old, targets(1, 3, 9))

    assert lasts(new) == [1, 9, 3]
    assert new.first == old.first


def test_with_another_number_the_next_is_first_in_a_new_ring(identities):
    old = identify(identities, NOBODY, targets(1, 2, 3))
    new = identify(identities, old, targets(1, 2, 3, 4))

    assert lasts(new) == [2, 3, 4, 1]
    assert set(new.positions).isdisjoint(old.positions)


def test_without_a_ring_no_position_is_taken(identities):
    assert identities.assign(NOBODY, identities.identify({}, targets(1)), targets(1), ring=Ring.NONE).first is None


def test_numbers_go_back_by_the_difference(identities):
    old = identify(identities, NOBODY, targets(1, 2))
    new = identify(identities, old, targets(2, 3, 4))
    identities.release([old], [new])

    assert identities._shares._taken == {10}
    assert identities._positions._taken == set(new.positions)
    identities.release([new], [])
    assert (identities._shares._taken, identities._positions._taken) == (set(), set())


def test_what_is_adopted_is_kept(identities):
    found = Assignment(tuple(Member(target, 151 + n) for n, target in enumerate(targets(1, 2))), 20)
    adopted = identities.adopt({"all": found})["all"]

    assert identify(identities, adopted, targets(2, 1)) == found


def test_an_id_may_be_in_two_sets_of_one_service_port(identities):
    one, two = targets(1, 2)
    found = {"all": Assignment((Member(one, 151), Member(two, 152)), 20), "here": Assignment((Member(one, 151),), 30)}

    assert identities.adopt(found) == found


def test_a_share_somebody_else_has_is_not_adopted(identities):
    one, two = targets(1, 2)
    identities.adopt({"all": Assignment((Member(one, 151),))})

    assert identities.adopt({"all": Assignment((Member(two, 152),))}) == {"all": NOBODY}


@pytest.mark.parametrize("numbers", [(151, 151), (150, 151), (201, 202)], ids=["twice", "a port's number", "no id"])
def test_ids_that_cannot_be_are_not_adopted(identities, numbers):
    members = tuple(Member(target, number) for target, number in zip(targets(1, 2), numbers, strict=True))

    assert identities.adopt({"all": Assignment(members)}) == {"all": NOBODY}


def test_a_ring_somebody_else_has_is_not_adopted_but_the_ids_are(identities):
    one, two = ([Member(target, number + n) for n, target in enumerate(targets(1, 2))] for number in (151, 161))
    identities.adopt({"all": Assignment(tuple(one), 20)})

    assert identities.adopt({"all": Assignment(tuple(two), 21)}) == {"all": Assignment(tuple(two))}


def test_numbers_seen_in_the_kernel_are_not_handed_out_next(identities):
    identities.skip(ids=[151, 7], positions=[20])
    new = identify(identities, NOBODY, targets(1, 2))

    assert min(new.ids) > 151
    assert new.first == 21


# --- fairness


class Turns:
    """The kernel's counter in a Service port's rule: it goes round while the ring stays and starts anew with another."""

    def __init__(self, ring: Ring) -> None:
        self.identities = Identities(range(1 << 16, 1 << 17), range(1, 1 << 16), share=256)
        self.ring = ring
        self.assignment = NOBODY
        self.next = 0

    def change(self, wanted: list[Target]) -> None:
        old, new = self.assignment, identify(self.identities, self.assignment, wanted, self.ring)
        self.next = self.next if new.positions == old.positions else 0
        self.identities.release([self.assignment], [new])
        self.assignment = new

    def turn(self) -> int:
        member = self.assignment.members[self.next % len(self.assignment.members)]
        self.next += 1
        return member.target.packed[-1]


RINGS = st.sampled_from([Ring.ANY, Ring.OWN])


@given(RINGS, st.lists(st.tuples(st.sets(st.integers(1, 8), min_size=1), st.integers(0, 20)), min_size=1, max_size=8))
def test_between_two_changes_nobody_gains_more_than_one(ring, steps):
    turns = Turns(ring)
    for wanted, connections in steps:
        turns.change(targets(*sorted(wanted)))
        got = Counter(dict.fromkeys(wanted, 0))
        got.update(turns.turn() for _ in range(connections))

        assert max(got.values()) - min(got.values()) <= 1


@given(RINGS, st.lists(st.tuples(st.sets(st.integers(3, 9), min_size=2, max_size=2), st.integers(0, 20)), min_size=1))
def test_while_endpoints_are_only_replaced_those_who_stay_differ_by_one_at_most_over_all_time(ring, steps):
    turns, got = Turns(ring), Counter()
    for others, connections in steps:
        turns.change(targets(1, 2, *sorted(others)))
        got.update(turns.turn() for _ in range(connections))

    assert abs(got[1] - got[2]) <= 1
