"""When chains that are no longer used are deleted, and when those that somebody refers to are tried again."""

import errno

import pytest

from dataplane.nft.interface import Failure, TransactionFailed
from proxy.stale_chains import StaleChains


class Table:
    """Deletes chains but those in `held`; those in `gone` are not there."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.gone: set[str] = set()
        self.commits: list[list[str]] = []

    def commit(self, operations) -> None:
        names = [operation.name for operation in operations]
        self.commits.append(names)
        for code, refused in ((errno.EBUSY, self.held), (errno.ENOENT, self.gone)):
            if refused.intersection(names):
                raise TransactionFailed("commit", code, failures=(Failure(0, code),))


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def stale(table, clock) -> StaleChains:
    return StaleChains(table, clock=lambda: clock[0])


def test_all_go_in_one_transaction(stale, table):
    stale.add(["a", "b"])
    stale.sweep()

    assert table.commits == [["b", "a"]]
    assert stale.wait is None


def test_one_that_is_held_does_not_keep_the_others(stale, table):
    table.held = {"a"}
    stale.add(["a", "b"])
    stale.sweep()
    table.commits.clear()
    stale.add(["c"])
    stale.sweep()

    assert table.commits == [["c"]]
    assert stale.failures == 1


def test_one_that_is_held_is_tried_less_and_less_often(stale, table, clock):
    table.held = {"a"}
    stale.add(["a"])
    waits = []
    for _ in range(12):
        stale.sweep()
        waits.append(stale.wait)
        clock[0] += stale.wait

    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == 600


def test_one_that_is_held_goes_when_it_is_let_go(stale, table, clock):
    table.held = {"a"}
    stale.add(["a"])
    stale.sweep()
    table.held.clear()
    clock[0] += stale.wait
    stale.sweep()

    assert stale.wait is None


def test_one_that_is_gone_is_forgotten(stale, table):
    table.gone = {"a"}
    stale.add(["a"])
    stale.sweep()

    assert (stale.wait, stale.failures) == (None, 0)
