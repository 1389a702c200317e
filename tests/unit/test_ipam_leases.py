"""The lease file: one owner per address, whoever asks, in whatever order, and whatever became of the file."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network

import pytest

from ipam.lease import Attachment, Claim, Sandbox, State
from ipam.leases import FILE, AlreadyLeased, LeaseLost, Leases, LeasesBusy, LeasesInaccessible, LeasesUnreadable
from ipam.pool import Pool, PoolExhausted

POOL = Pool.of(IPv4Network("10.244.1.0/24"))
SMALL, NEXT = Pool.of(IPv4Network("10.244.2.0/30")), Pool.of(IPv4Network("10.244.3.0/30"))
BOOT, LATER = "boot-1", "boot-2"


def claim(container: str, *, network="net", token="t", boot=BOOT) -> Claim:
    return Claim(
        attachment=Attachment(network=network, container_id=container, ifname="eth0"),
        token=f"{token}-{container}",
        sandbox=Sandbox(device=4, inode=4026531840, boot_id=boot),
        host_veth=f"pw{container}",
        owner=f"default/{container}",
    )


@pytest.fixture
def leases(tmp_path):
    with Leases(tmp_path) as opened:
        yield opened


def test_lease_is_found_as_it_was_given(leases):
    lease = leases.assign([[POOL]], claim("a"))
    assert leases.find(lease.claim.attachment) == lease
    assert (str(lease.interfaces[0]), lease.state) == ("10.244.1.1/24", State.PENDING)


def test_file_moved_away_is_noticed(tmp_path, leases):
    assert leases.is_current()
    (tmp_path / FILE).rename(tmp_path / "moved")
    assert not leases.is_current()


def test_lease_outlives_the_process(tmp_path):
    with Leases(tmp_path) as first:
        lease = first.assign([[POOL]], claim("a"))
        first.activate(lease)
    with Leases(tmp_path) as second:
        assert second.of("net")[0].state is State.ACTIVE


def test_attachment_has_one_address(leases):
    held = leases.assign([[POOL]], claim("a"))
    with pytest.raises(AlreadyLeased, match=str(held.address)):
        leases.assign([[POOL]], claim("a", token="other"))


def test_same_address_may_be_given_on_another_network(leases):
    given = [leases.assign([[POOL]], claim("a", network=network)).address for network in ("net", "lab")]
    assert given[0] == given[1]


def test_release_with_anothers_token_frees_nothing(leases):
    late = leases.assign([[POOL]], claim("a", token="late"))
    leases.release(late)
    current = leases.assign([[POOL]], claim("a", token="new"))
    leases.release(late)
    assert leases.of("net") == (current,)


def test_activating_a_released_lease_says_that_it_is_lost(leases):
    lease = leases.assign([[POOL]], claim("a"))
    leases.release(lease)
    with pytest.raises(LeaseLost, match=r"10\.244\.1\.1"):
        leases.activate(lease)


def test_second_pool_serves_when_the_first_is_full(leases):
    given = [str(leases.assign([[SMALL, NEXT]], claim(name)).address) for name in "abcd"]
    assert given == ["10.244.2.1", "10.244.2.2", "10.244.3.1", "10.244.3.2"]


def test_exhaustion_names_every_pool_and_changes_nothing(leases):
    for name in "abcd":
        leases.assign([[SMALL, NEXT]], claim(name))
    with pytest.raises(PoolExhausted, match=r"10\.244\.2\.0/30, 10\.244\.3\.0/30 are exhausted: 4 of 4"):
        leases.assign([[SMALL, NEXT]], claim("e"))
    assert len(leases.of("net")) == 4


def test_leases_of_an_earlier_boot_are_dropped_once(leases):
    leases.begin_boot(BOOT)
    leases.assign([[POOL]], claim("a"))
    assert [leases.begin_boot(LATER), leases.begin_boot(LATER), len(leases.of("net"))] == [1, 0, 0]


def test_many_askers_at_once_get_different_addresses(tmp_path):
    def ask(number: int) -> str:
        with Leases(tmp_path) as own:
            return str(own.assign([[POOL]], claim(f"c{number}")).address)

    with ThreadPoolExecutor(64) as askers:
        assert len(set(askers.map(ask, range(200)))) == 200


def test_opened_by_many_at_once_for_the_first_time(tmp_path):
    def open_and_close(_: int) -> None:
        Leases(tmp_path / "new").close()

    with ThreadPoolExecutor(32) as openers:
        list(openers.map(open_and_close, range(64)))
    assert [path.name for path in (tmp_path / "new").iterdir() if FILE not in path.name] == []
    assert not list((tmp_path / "new").glob(".*"))


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 8176, b"x" * 100],
    ids=["empty", "zeros", "header only", "text"],
)
def test_damaged_file_is_named_and_left_as_it_is(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(LeasesUnreadable, match=str(tmp_path / FILE)):
        Leases(tmp_path)
    assert (tmp_path / FILE).read_bytes() == content


def test_page_damaged_in_the_middle_is_named(tmp_path):
    with Leases(tmp_path) as leases:
        for number in range(200):
            leases.assign([[POOL]], claim(f"c{number}"))
    path = tmp_path / FILE
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(LeasesUnreadable, match=str(path)), Leases(tmp_path) as leases:
        leases.of("net")


def test_file_of_another_layout_is_refused(tmp_path):
    Leases(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as sql:
        sql.execute("PRAGMA user_version = 9")
    sql.close()
    with pytest.raises(LeasesUnreadable, match="layout is 9"):
        Leases(tmp_path)


def test_file_locked_for_too_long_is_busy_not_damaged(tmp_path):
    Leases(tmp_path).close()
    holder = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with Leases(tmp_path, patience=0.05) as leases, pytest.raises(LeasesBusy, match=str(tmp_path / FILE)):
        leases.assign([[POOL]], claim("a"))
    holder.close()


def test_full_disk_is_told_as_such_and_changes_nothing(leases):
    leases._file._sql.execute("PRAGMA max_page_count = 1")  # SQLite's own way to run out of space

    def fill() -> None:
        for number in range(200):
            leases.assign([[POOL]], claim(f"{'long' * 60}{number}"))

    with pytest.raises(LeasesInaccessible, match="full"):
        fill()
    addresses = [lease.address for lease in leases.of("net")]
    assert len(addresses) == len(set(addresses))


KILLED_IN_A_TRANSACTION = """
import os, signal, sys
from pathlib import Path
from ipam.leases import Leases
leases = Leases(Path(sys.argv[1]))
with leases._file.transaction():
    leases._file._sql.execute("DELETE FROM leases")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_in_a_transaction_changes_nothing(tmp_path):
    with Leases(tmp_path) as leases:
        lease = leases.assign([[POOL]], claim("a"))
    done = subprocess.run([sys.executable, "-c", KILLED_IN_A_TRANSACTION, str(tmp_path)], timeout=120)
    assert done.returncode == -9
    with Leases(tmp_path) as leases:
        assert leases.of("net") == (lease,)
        leases.release(lease)
        assert leases.of("net") == ()
