from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam import cidrs
from ipam.cidrs import assign_subnet
from ipam.pool import PoolExhausted, PoolTooSmall

CLUSTER = IPv4Network("10.244.0.0/16")


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        pytest.param([], "10.244.0.0/24", id="empty cluster"),
        pytest.param(["10.244.0.0/24", "10.244.1.0/24"], "10.244.2.0/24", id="next"),
        pytest.param(["10.244.0.0/24", "10.244.2.0/24"], "10.244.1.0/24", id="gap"),
        pytest.param(["10.244.0.0/20"], "10.244.16.0/24", id="a larger one is stepped over"),
        pytest.param(["10.244.0.128/25", "10.244.1.0/26"], "10.244.2.0/24", id="smaller ones block their subnet"),
        pytest.param(["192.168.0.0/16"], "10.244.0.0/24", id="foreign networks do not matter"),
        pytest.param(["10.0.0.0/12"], "10.244.0.0/24", id="foreign one below"),
    ],
)
def test_lowest_free_subnet(taken, expected):
    assert assign_subnet(CLUSTER, 24, [IPv4Network(text) for text in taken]) == IPv4Network(expected)


def test_exhausted_cluster_names_cidr_and_count():
    with pytest.raises(PoolExhausted, match=r"10\.244\.0\.0/30 is exhausted: 2 of 2 /31 subnets"):
        assign_subnet(IPv4Network("10.244.0.0/30"), 31, IPv4Network("10.244.0.0/30").subnets(new_prefix=31))


def test_prefix_wider_than_the_cluster_is_refused():
    with pytest.raises(PoolTooSmall, match="/8 does not fit"):
        assign_subnet(CLUSTER, 8, [])


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(22, 28))))
def test_law_an_assigned_subnet_overlaps_nothing_taken(rows):
    taken = [IPv4Network((int(CLUSTER[number * 256]), prefix), strict=False) for number, prefix in rows]
    try:
        subnet = assign_subnet(CLUSTER, 24, taken)
    except PoolExhausted:
        assert all(any(net.overlaps(wanted) for net in taken) for wanted in CLUSTER.subnets(new_prefix=24))
    else:
        assert subnet.subnet_of(CLUSTER)
        assert not any(subnet.overlaps(net) for net in taken)


@pytest.mark.parametrize(
    "text", ["10.244.0.0/16", "fd00:10:244::/56", "10.244.0.0/16,fd00:10:244::/56", "fd00:10:244::/56,10.244.0.0/16"]
)
def test_what_operators_write_is_read_in_their_order(text):
    assert cidrs.spell(cidrs.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not appear to be an IPv4 or IPv6 network"),
        ("10.244.0.1/16", "has host bits set"),
        ("10.244.0.0/16,10.245.0.0/16", "one network of each family is enough"),
        ("10.244.0.0/16,fd00::/56,fd01::/56", "one network of each family is enough"),
        ("10.244.0.0/16,", "does not appear"),
    ],
)
def test_what_is_no_list_of_networks_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        cidrs.parse(text)


def test_lowest_free_subnet_of_ipv6():
    taken = [IPv6Network("fd00:10:244::/64")]
    assert assign_subnet(IPv6Network("fd00:10:244::/56"), 64, taken) == IPv6Network("fd00:10:244:1::/64")
