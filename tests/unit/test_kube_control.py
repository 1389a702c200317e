import threading
import time

import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st

from kube.backoff import Backoff
from kube.control import ControlLoop, DirtySet, SyncFailed, one_by_one
from tests.waiting import eventually

FIRST = 1 / 16  # waits that a float holds exactly


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Rounds:
    """A sync that remembers its rounds and fails for the keys it is told to."""

    def __init__(self) -> None:
        self.rounds: list[frozenset[str]] = []
        self.bad: set[str] = set()

    def __call__(self, keys: frozenset[str]) -> None:
        self.rounds.append(keys)
        if bad := keys & self.bad:
            raise SyncFailed({key: ValueError(f"{key} is bad") for key in bad})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop(clock) -> ControlLoop[str]:
    return ControlLoop("test", backoff=Backoff(first=FIRST, longest=30.0), clock=clock)


@pytest.fixture
def rounds() -> Rounds:
    return Rounds()


def retry_times(loop: ControlLoop[str], clock: Clock, rounds: Rounds, count: int) -> list[float]:
    """Move the clock in small steps and return when rounds happened, after the start."""
    times = []
    for _ in range(count):
        while not loop.run_due(rounds):
            clock.now += FIRST / 4
        times.append(clock.now - 100.0)
    return times


def test_all_marked_keys_come_in_one_round(loop, rounds):
    loop.mark("a")
    loop.mark("b")
    loop.mark("a")
    loop.run_due(rounds)
    assert rounds.rounds == [{"a", "b"}]


def test_a_done_key_does_not_come_back(loop, clock, rounds):
    loop.mark("a")
    loop.run_due(rounds)
    clock.now += 3600
    assert loop.run_due(rounds) == frozenset()


def test_a_mark_for_later_waits(loop, clock, rounds):
    loop.mark("a", after=5)
    assert loop.run_due(rounds) == frozenset()
    clock.now += 5
    assert loop.run_due(rounds) == {"a"}


def test_a_mark_for_now_does_not_wait_for_an_older_one_for_later(loop, rounds):
    loop.mark("a", after=5)
    loop.mark("a")
    assert loop.run_due(rounds) == {"a"}


def test_a_mark_for_later_does_not_delay_an_older_one_for_now(loop, rounds):
    loop.mark("a")
    loop.mark("a", after=5)
    assert loop.run_due(rounds) == {"a"}


def test_a_mark_during_the_round_means_one_more_round(loop, rounds):
    loop.mark("a")
    loop.run_due(lambda _keys: loop.mark("a"))
    assert loop.run_due(rounds) == {"a"}


def test_a_failing_key_comes_back_after_waits_that_double(loop, clock, rounds):
    rounds.bad = {"a"}
    loop.mark("a")
    assert retry_times(loop, clock, rounds, 5) == [0, FIRST, FIRST * 3, FIRST * 7, FIRST * 15]


def test_waits_go_from_fifty_milliseconds_to_thirty_seconds():
    dirty: DirtySet[str] = DirtySet()
    waits = [dirty.failed("a", 0.0) for _ in range(2000)]
    assert (waits[0], waits[-1]) == (0.05, 30.0)


def test_the_other_keys_of_a_failed_round_are_done(loop, clock, rounds):
    rounds.bad = {"a"}
    loop.mark("a")
    loop.mark("b")
    loop.run_due(rounds)
    clock.now += 1
    assert loop.run_due(rounds) == {"a"}


def test_an_exception_of_another_kind_brings_all_keys_back(loop, clock, rounds):
    def explode(_keys: frozenset[str]) -> None:
        raise OSError("no buffer space")

    loop.mark("a")
    loop.mark("b")
    loop.run_due(explode)
    clock.now += 1
    assert loop.run_due(rounds) == {"a", "b"}


def test_a_mark_while_a_failed_key_waits_brings_it_back_at_once(loop, rounds):
    rounds.bad = {"a"}
    loop.mark("a")
    loop.run_due(rounds)
    loop.mark("a")
    assert loop.run_due(rounds) == {"a"}


def test_success_makes_the_next_failure_the_first(loop, clock, rounds):
    rounds.bad = {"a"}
    loop.mark("a")
    retry_times(loop, clock, rounds, 5)
    rounds.bad = set()
    retry_times(loop, clock, rounds, 1)
    rounds.bad = {"a"}
    loop.mark("a")
    first, second = retry_times(loop, clock, rounds, 2)
    assert second - first == FIRST


def test_one_by_one_isolates_the_key_that_fails(loop, clock, rounds):
    done = []

    def sync(key: str) -> None:
        if key == "a":
            raise KeyError(key)
        done.append(key)

    for key in "abc":
        loop.mark(key)
    loop.run_due(one_by_one(sync))
    clock.now += 1
    assert sorted(done) == ["b", "c"]
    assert loop.run_due(rounds) == {"a"}


def test_a_failed_round_is_one_line_of_the_log(loop, rounds):
    rounds.bad = {str(number) for number in range(100)}
    for key in rounds.bad:
        loop.mark(key)
    with structlog.testing.capture_logs() as lines:
        loop.run_due(rounds)
    assert [(entry["failed"], entry["loop"]) for entry in lines] == [(100, "test")]


def test_run_waits_for_marks_and_ends_when_stopped(rounds):
    loop: ControlLoop[str] = ControlLoop("test")
    thread = threading.Thread(target=loop.run, args=(rounds,))
    thread.start()
    loop.mark("a")
    eventually(lambda: rounds.rounds)
    loop.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert rounds.rounds == [{"a"}]


def test_run_comes_back_to_a_failed_key_by_itself(rounds):
    loop: ControlLoop[str] = ControlLoop("test")
    rounds.bad = {"a"}
    thread = threading.Thread(target=loop.run, args=(rounds,))
    thread.start()
    loop.mark("a")
    eventually(lambda: len(rounds.rounds) >= 3)
    loop.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_a_loop_stopped_before_it_runs_does_nothing(loop, rounds):
    loop.mark("a")
    loop.stop()
    loop.run(rounds)
    assert rounds.rounds == []


def test_marks_from_many_threads_are_all_seen(rounds):
    loop: ControlLoop[str] = ControlLoop("test")
    runner = threading.Thread(target=loop.run, args=(rounds,))
    runner.start()
    markers = [
        threading.Thread(target=lambda first=first: [loop.mark(f"{first}-{n}") for n in range(200)])
        for first in range(8)
    ]
    for marker in markers:
        marker.start()
    for marker in markers:
        marker.join()
    eventually(lambda: len(frozenset().union(*rounds.rounds)) == 1600)
    loop.stop()
    runner.join(60)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 10))))
def test_no_mark_is_lost_and_none_comes_early(marks):
    dirty: DirtySet[str] = DirtySet()
    for key, due in marks:
        dirty.mark(key, due)
    taken: dict[str, float] = {}
    while (due := dirty.next_due()) is not None:
        taken |= dict.fromkeys(dirty.take(due), due)
    assert taken == {key: min(due for other, due in marks if other == key) for key, _ in marks}


def test_a_round_under_a_stream_of_marks_is_followed_by_a_rest_as_long_as_its_work():
    loop = ControlLoop("resting", rest=10.0)
    ends, begins = [], []

    def sync(keys):
        begins.append(time.monotonic())
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        loop.mark("next") if len(begins) < 2 else loop.stop()
        ends.append(time.monotonic())

    loop.mark("first")
    loop.run(sync)
    assert begins[1] - ends[0] >= 0.05
