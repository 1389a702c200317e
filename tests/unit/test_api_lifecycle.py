"""How a deletion is stamped."""

from datetime import UTC, datetime

import pytest

from api import lifecycle

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "end"),
    [(30, "2030-01-02T03:04:35Z"), (2**63 - 1, "3029-05-05T03:04:05Z")],
    ids=["usual", "longest"],
)
def test_the_end_of_any_grace_period_can_be_told(seconds, end):
    metadata = lifecycle.dying({"metadata": {}}, now=NOW, seconds=seconds)["metadata"]

    assert (metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"]) == (end, seconds)
