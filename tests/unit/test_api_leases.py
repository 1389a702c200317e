"""Leases: what is checked of them, and what kubectl prints."""

from datetime import UTC, datetime
from typing import Any

import pytest

from api.resources.lease import LeaseStrategy
from kube.errors import BadRequest

LEASES = LeaseStrategy()
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def lease(**spec: Any) -> dict[str, Any]:
    return LEASES.default({"metadata": {"name": "n1", "namespace": "kube-node-lease"}, "spec": spec})


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"leaseDurationSeconds": 0}, "spec.leaseDurationSeconds"),
        ({"leaseTransitions": -1}, "spec.leaseTransitions"),
    ],
)
def test_a_duration_that_makes_no_sense_is_refused(spec, field):
    assert [error.field for error in LEASES.validate(lease(**spec), None)] == [field]


def test_a_lease_needs_nothing_but_its_name():
    assert LEASES.validate(lease(), None) == []


def test_a_duration_that_is_no_number_is_a_bad_request():
    with pytest.raises(BadRequest, match=r"spec\.leaseDurationSeconds"):
        lease(leaseDurationSeconds="40")


def test_kubectl_prints_who_holds_it():
    assert [column.cell(lease(holderIdentity="n1"), NOW) for column in LEASES.columns[:2]] == ["n1", "n1"]
