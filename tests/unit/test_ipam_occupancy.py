"""Rest before reuse, wanted addresses, unbroken stretches and the history, in the lease file."""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipam import layout
from ipam.allocator import share_out
from ipam.history import Event, tenures
from ipam.lease import Attachment, Claim, Sandbox
from ipam.leases import Clocks, Leases
from ipam.occupancy import Runs
from ipam.pool import AddressInUse, NotInPool, Pool, PoolExhausted, TooManyWanted, first_overlap

SMALL = Pool.of(ip_network("10.1.0.0/29"), gateway=ip_address("10.1.0.1"))  # .2 … .6
WIDE = Pool.of(ip_network("fd00::/64"), gateway=ip_address("fd00::1"))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


@dataclass
class Time:
    steady: float = 1000.0
    wall: float = NOON

    def passes(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def leases(tmp_path, time):
    with Leases(tmp_path, clocks=Clocks(steady=lambda: time.steady, wall=lambda: time.wall)) as opened:
        yield opened


def claim(container, boot="boot"):
    return Claim(
        attachment=Attachment(network="net", container_id=container, ifname="eth0"),
        token=f"token-{container}",
        sandbox=Sandbox(device=4, inode=1, boot_id=boot),
        host_veth=f"pw{container}",
        owner=f"default/{container}",
    )


def last(lease):
    return int(lease.address) & 0xFF


def test_released_address_rests_even_when_it_is_the_next_in_turn(leases, time):
    held = [leases.assign([[SMALL]], claim(name)) for name in "abcde"]
    for lease in held[:2]:  # .2 and then .3
        leases.release(lease)
        time.passes(20)
    assert last(leases.assign([[SMALL]], claim("f"))) == 2  # .3 was released 20 s ago, .2 40 s


def test_full_pool_gives_what_has_rested_longest(leases, time):
    held = [leases.assign([[SMALL]], claim(name)) for name in "abcde"]
    for index in (3, 1):
        leases.release(held[index])
        time.passes(1)
    assert [last(leases.assign([[SMALL]], claim(name))) for name in "xy"] == [5, 3]
    with pytest.raises(PoolExhausted, match="5 of 5"):
        leases.assign([[SMALL]], claim("z"))


def test_no_rest_when_the_configuration_says_so(leases):
    for name in "abcde":
        leases.release(leases.assign([[SMALL]], claim(name), cooldown=0))
    leases.assign([[SMALL]], claim("f"), cooldown=0)
    assert leases.usage("net", [SMALL])[0].cooling == 0


@pytest.mark.parametrize("jump", [-86400.0, 86400.0], ids=["back", "forward"])
def test_jumps_of_the_wall_clock_change_nothing(leases, time, jump):
    held = [leases.assign([[SMALL]], claim(name)) for name in "abcde"]
    leases.release(held[0])
    leases.release(held[1])
    time.wall += jump
    assert last(leases.assign([[SMALL]], claim("f"))) == 2
    assert leases.usage("net", [SMALL])[0].cooling == 1


def test_release_stamped_by_another_clock_does_not_rest_for_ever(leases, time):
    leases.release(leases.assign([[SMALL]], claim("a")))
    time.steady = 5.0
    leases.assign([[SMALL]], claim("b"))
    assert leases.usage("net", [SMALL])[0].cooling == 0


def test_usage_counts_what_is_held_and_what_rests(leases):
    leases.assign([[SMALL], [WIDE]], claim("a"))
    leases.release(leases.assign([[SMALL], [WIDE]], claim("b")))
    small, wide = leases.usage("net", [SMALL, WIDE])
    assert (small.used, small.cooling, small.free, small.size) == (1, 1, 4, 5)
    assert (wide.used, wide.size) == (1, 2**64 - 2)


def test_wanted_address_is_given_even_while_it_rests(leases):
    leases.release(leases.assign([[SMALL]], claim("a")))
    assert last(leases.assign([[SMALL]], claim("b"), wanted=[ip_address("10.1.0.2")])) == 2


def test_wanted_address_in_use_names_its_owner_and_gives_nothing(leases):
    leases.assign([[SMALL]], claim("a"))
    with pytest.raises(AddressInUse, match=r"10\.1\.0\.2 is already in use by default/a"):
        leases.assign([[WIDE], [SMALL]], claim("b"), wanted=[ip_address("10.1.0.2")])
    assert leases.find(claim("b").attachment) is None
    assert leases.usage("net", [WIDE])[0].used == 0


def test_wanted_address_does_not_move_the_turn(leases):
    leases.assign([[SMALL]], claim("a"), wanted=[ip_address("10.1.0.5")])
    assert last(leases.assign([[SMALL]], claim("b"))) == 2


@pytest.mark.parametrize(
    ("wanted", "error"),
    [(["10.1.0.1"], NotInPool), (["10.9.0.1"], NotInPool), (["10.1.0.2", "10.1.0.3"], TooManyWanted)],
)
def test_what_no_range_can_give_is_refused(wanted, error):
    with pytest.raises(error, match=wanted[-1]):
        share_out([[SMALL], [WIDE]], [ip_address(text) for text in wanted])


def test_each_range_gives_the_wanted_address_it_has():
    wanted = [ip_address("fd00::9"), ip_address("10.1.0.4")]
    assert share_out([[SMALL], [WIDE]], wanted) == (wanted[1], wanted[0])


def test_excluded_parts_are_stepped_over():
    pool = Pool.of(ip_network("fd00::/64"), excluded=[ip_network("fd00::/65"), ip_address("fd00:0:0:0:8000::")])
    assert pool.size == 2**63 - 1
    assert pool.exceptions == "fd00::1 to fd00::8000:0:0:0"


def test_first_address_behind_a_large_exclusion_is_found_at_once(leases):
    pool = Pool.of(ip_network("fd00::/64"), excluded=[ip_network("fd00::/65")])
    given = [str(leases.assign([[pool]], claim(name)).address) for name in "ab"]
    assert given == ["fd00::8000:0:0:0", "fd00::8000:0:0:1"]


def test_last_address_of_all_can_be_given(leases):
    top = Pool.of(ip_network("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126"))
    given = [str(leases.assign([[top]], claim(name)).address)[-4:] for name in "abc"]
    assert given == ["fffd", "fffe", "ffff"]
    highest = Pool.of(ip_network("255.255.255.252/30"))
    assert str(leases.assign([[highest]], claim("d"), wanted=[ip_address("255.255.255.254")]).address)[-3:] == "254"


def test_overlap_is_of_one_family_only():
    four, six = Pool.of(ip_network("0.0.0.0/24")), Pool.of(ip_network("::/120"))
    assert first_overlap([four, six]) is None
    assert first_overlap([six, four, Pool.of(ip_network("0.0.0.128/25"))]) == (2, 1)


def test_history_tells_who_had_an_address_at_a_moment(leases, time):
    address = ip_address("10.1.0.2")
    for name in "ab":
        lease = leases.assign([[SMALL]], claim(name), wanted=[address])
        time.passes(60)
        leases.release(lease)
        time.passes(60)
    told = leases.history(address)
    assert [(one.owner, one.until is None) for one in told] == [("default/a", False), ("default/b", False)]
    moment = datetime.fromtimestamp(NOON + 150, UTC)
    assert [one.owner for one in told if one.covers(moment)] == ["default/b"]


def test_history_knows_the_holder_of_today(leases):
    leases.assign([[SMALL]], claim("a"))
    (told,) = leases.history(ip_address("10.1.0.2"))
    assert (told.owner, told.until) == ("default/a", None)


def test_history_forgets_the_oldest_but_never_the_holder(leases, monkeypatch):
    monkeypatch.setattr("ipam.ledger.KEPT", 10)
    leases.assign([[SMALL]], claim("stays"))
    for number in range(20):
        leases.release(leases.assign([[SMALL]], claim(f"c{number}"), cooldown=0))
    assert leases._file.rows("SELECT count(*) FROM history") == [(10,)]
    assert [(one.owner, one.since) for one in leases.history(ip_address("10.1.0.2"))] == [("default/stays", None)]


def test_reboot_ends_every_tenure_and_every_rest(leases):
    leases.begin_boot("boot")
    leases.assign([[SMALL]], claim("a"))
    leases.release(leases.assign([[SMALL]], claim("b")))
    assert leases.begin_boot("next") == 1
    assert leases.history(ip_address("10.1.0.2"))[0].until is not None
    assert leases.usage("net", [SMALL])[0].cooling == 0
    assert leases._file.rows("SELECT * FROM runs") == []


def test_release_without_a_beginning_is_told_since_ever():
    event = Event(
        at=datetime.fromtimestamp(NOON, UTC),
        is_given=False,
        address=ip_address("10.1.0.2"),
        attachment=claim("a").attachment,
        owner="default/a",
    )
    (told,) = tenures([event])
    assert (told.since, told.until) == (None, event.at)


numbers = st.one_of(st.integers(0, 40), st.integers(2**128 - 20, 2**128 - 1))


@settings(max_examples=50)
@given(st.lists(numbers, max_size=40))
def test_law_runs_are_exactly_the_taken_numbers(toggled):
    sql = sqlite3.connect(":memory:", isolation_level=None)
    layout.create(sql)
    runs, taken = Runs(sql, "net", 6), set()
    for number in toggled:
        (runs.remove if number in taken else runs.add)(number)
        taken ^= {number}
    rows = sql.execute("SELECT first, last FROM runs ORDER BY first").fetchall()
    spans = [(int.from_bytes(first, "big"), int.from_bytes(last, "big")) for first, last in rows]
    sql.close()
    assert {number for first, last in spans for number in range(first, last + 1)} == taken
    assert all(before[1] + 1 < behind[0] for before, behind in pairwise(spans))


@settings(max_examples=30)
@given(steps=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 40)), max_size=40))
def test_law_an_address_has_one_holder_and_none_is_lost(tmp_path_factory, steps):
    now, held = 100.0, {}
    with Leases(tmp_path_factory.mktemp("law"), clocks=Clocks(steady=lambda: now)) as leases:
        for name, pause in steps:
            now += pause
            if lease := held.pop(name, None):
                leases.release(lease)
            elif len(held) < SMALL.size:
                held[name] = leases.assign([[SMALL]], claim(str(name)))
            addresses = [one.address for one in held.values()]
            assert len(addresses) == len(set(addresses))
            assert leases.usage("net", [SMALL])[0].used == len(held)
