from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam import allocator
from ipam.pool import AddressInUse, NotInPool, Pool, PoolExhausted, PoolTooSmall

SUBNET = IPv4Network("10.244.1.0/29")  # .1 … .6 are usable
GATEWAY = IPv4Address("10.244.1.1")
POOL = Pool.of(SUBNET, gateway=GATEWAY)


def a(last: int) -> IPv4Address:
    return IPv4Address(f"10.244.1.{last}")


def test_pool_keeps_network_broadcast_and_gateway_for_itself():
    given_away = {address for address in SUBNET if address in POOL}
    assert given_away == {a(2), a(3), a(4), a(5), a(6)}


def test_size_counts_what_can_be_given():
    assert POOL.size == 5


@pytest.mark.parametrize(
    ("taken", "after", "expected"),
    [
        pytest.param(set(), None, a(2), id="empty: first behind the gateway"),
        pytest.param({a(2)}, a(2), a(3), id="goes on behind the last one"),
        pytest.param({a(3)}, a(3), a(4), id="does not come back to a freed one at once"),
        pytest.param({a(6)}, a(6), a(2), id="wraps at the end"),
        pytest.param({a(2), a(3), a(5), a(6)}, a(6), a(4), id="finds the only gap"),
        pytest.param({a(2), a(4)}, a(2), a(3), id="skips taken ones only"),
        pytest.param(set(), IPv4Address("10.244.9.9"), a(2), id="the range changed: starts over"),
    ],
)
def test_next_address(taken, after, expected):
    assert allocator.assign(POOL, taken, after) == expected


def test_exhausted_pool_names_subnet_used_and_size():
    with pytest.raises(PoolExhausted, match=r"10\.244\.1\.0/29 is exhausted: 5 of 5 addresses"):
        allocator.assign(POOL, {a(n) for n in range(2, 7)}, a(3))


def test_part_of_a_network():
    pool = Pool.of(SUBNET, first=a(3), last=a(4))
    assert [address for address in SUBNET if address in pool] == [a(3), a(4)]


@pytest.mark.parametrize(
    ("network", "bounds", "reason"),
    [
        ("10.244.1.0/29", {"first": "10.244.2.1"}, "outside"),
        ("10.244.1.0/29", {"last": "10.244.1.7"}, "outside"),
        ("10.244.1.0/29", {"first": "10.244.1.5", "last": "10.244.1.2"}, "behind"),
        ("10.244.1.0/32", {"gateway": "10.244.1.0"}, "all excluded"),
    ],
)
def test_pool_that_could_give_nothing_is_refused(network, bounds, reason):
    with pytest.raises(PoolTooSmall, match=reason):
        Pool.of(IPv4Network(network), **{name: IPv4Address(text) for name, text in bounds.items()})


def test_a_31_has_two_hosts():
    assert Pool.of(IPv4Network("10.244.1.0/31")).size == 2


def test_reserving_the_gateway_is_refused():
    with pytest.raises(NotInPool, match=r"10\.244\.1\.2 to 10\.244\.1\.6|except 10\.244\.1\.1"):
        allocator.reserve(POOL, set(), GATEWAY)


def test_reserving_a_taken_address_is_refused():
    with pytest.raises(AddressInUse, match=r"10\.244\.1\.4"):
        allocator.reserve(POOL, {a(4)}, a(4))


@given(st.sets(st.integers(2, 6)), st.integers(0, 7))
def test_law_an_assigned_address_is_free_and_every_free_one_is_found(taken, after):
    taken = {a(n) for n in taken}
    found = allocator.next_free(POOL, taken, a(after))
    assert (found is None) == (len(taken) == 5)
    assert found is None or (found in POOL and found not in taken)
