"""Weights and turns. Endpoints: 10.244.0.1 and up."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import model
from proxy.identities import NOBODY, Identities
from proxy.model import Endpoint, Target
from proxy.turns import turns
from tests.services import endpoint_slice, service


def weighing(*weights: int) -> list[Endpoint]:
    return [Endpoint(target=Target(bytes((10, 244, 0, n)), 80), weight=w) for n, w in enumerate(weights, start=1)]


def lasts(targets: list[Target]) -> list[int]:
    return [target.packed[-1] for target in targets]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1, 1, 1), [1, 2, 3]),
        ((7, 7), [1, 2]),
        ((3, 1), [1, 1, 2, 1]),
        ((50, 100), [2, 1, 2]),
        ((2, 0, 1), [1, 3, 1]),
        ((0, 5), [2]),
        ((0, 0), [1, 2]),
        ((), []),
    ],
)
def test_turns_are_shared_by_weight(weights, expected):
    assert lasts(turns(weighing(*weights))) == expected


@given(st.lists(st.integers(0, 100), max_size=6))
def test_everybody_gets_its_share_exactly(weights):
    counted = Counter(lasts(turns(weighing(*weights))))
    heavy = [weight for weight in weights if weight] or weights

    for one, count in counted.items():
        weight = weights[one - 1] if any(weights) else 1
        assert count * (sum(heavy) or len(heavy)) == weight * counted.total()


@pytest.mark.parametrize("text", ["", "no", "[]", '{"10.244.0.2": "3"}', '{"10.244.0.2": -1}', '{"10.244.0.2": true}'])
def test_what_is_no_weight_weighs_one(text):
    made = endpoint_slice("web", ["10.244.0.2"])
    made.metadata.annotations["podwire.dev/weights"] = text
    (port,) = model.service_ports(service(), "IPv4")

    assert [endpoint.weight for endpoint in model.endpoints([made], port)] == [1]


def test_a_weighted_ring_keeps_ids_and_stays_as_it_is():
    identities = Identities(range(100), range(1, 100), share=10)
    order = turns(weighing(3, 1))
    ids = identities.identify({}, order)
    first = identities.assign(NOBODY, ids, order, ring=True)
    again = identities.assign(first, ids, order, ring=True)
    lighter = identities.assign(first, ids, turns(weighing(2, 1)), ring=True)

    assert again == first
    assert (len(first.members), len(lighter.members)) == (4, 3)
    assert lighter.ids == first.ids
