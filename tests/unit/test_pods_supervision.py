"""When a component is started again. Times in seconds."""

import pytest

from pods import supervision
from pods.supervision import History


def after_ends(count, *, ran_for=0.1):
    history, now = History(), 0.0
    for _ in range(count):
        history = supervision.ended(supervision.started(history, now), now + ran_for, "exit status 1")
        now = max(now + ran_for, history.start_at)
    return history, now


def test_the_first_end_is_followed_by_a_start_at_once():
    history = supervision.ended(supervision.started(History(), 100.0), 101.0, "exit status 1")

    assert history.start_at == 101.0


def test_waits_grow_and_stay_below_the_longest():
    waits = [supervision.delay(failures) for failures in range(1, 40)]

    assert sorted(waits) == waits
    assert supervision.BACKOFF.longest == waits[-1]


def test_a_component_that_ran_well_is_started_at_once_again():
    history, now = after_ends(6)
    history = supervision.ended(supervision.started(history, now), now + supervision.WELL_AFTER, "exit status 1")

    assert now + supervision.WELL_AFTER == history.start_at


def test_all_restarts_are_counted_even_the_forgiven():
    history, _ = after_ends(6)

    assert (history.restarts, supervision.forgiven(history).restarts) == (6, 6)
    assert (supervision.forgiven(history).failures, supervision.forgiven(history).start_at) == (0, 0.0)


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit status 0"), (3, "exit status 3"), (137, "killed by signal 9"), (None, "ended")]
)
def test_an_end_is_described_in_words(code, words):
    assert words == supervision.describe_exit(code)
