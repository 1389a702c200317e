"""The lease file under what breaks files: 64 processes at once, kill -9 at any moment, a disk without room."""

import os
import signal
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from ipam.lease import Attachment, Claim, Sandbox
from ipam.leases import FILE, Leases
from ipam.pool import Pool, PoolExhausted
from tests.waiting import eventually

POOLS = [[Pool.of(ip_network("10.1.0.0/25"))], [Pool.of(ip_network("fd00::/64"))]]
PROCESSES = 64
PATIENCE = 100  # seconds: how long it takes is not the question


def claim(container):
    return Claim(
        attachment=Attachment(network="net", container_id=container, ifname="eth0"),
        token=f"token-{container}",
        sandbox=Sandbox(device=4, inode=1, boot_id="boot"),
        host_veth=f"pw{container}",
        owner=container,
    )


def problems(directory):
    """What contradicts itself in the file, found without the code that wrote it."""
    with Leases(directory) as leases:
        sql = leases._file._sql
        rows = sql.execute("SELECT network, family, number FROM addresses").fetchall()
        spans = sql.execute("SELECT network, family, first, last FROM runs").fetchall()
        bare = sql.execute("SELECT count(*) FROM leases WHERE id NOT IN (SELECT lease FROM addresses WHERE lease > 0)")
        lost = sql.execute("SELECT count(*) FROM addresses WHERE lease > 0 AND lease NOT IN (SELECT id FROM leases)")
        counts = bare.fetchone()[0], lost.fetchone()[0]
        (whole,) = sql.execute("PRAGMA integrity_check").fetchone()
    taken = {(network, family, int.from_bytes(number, "big")) for network, family, number in rows}
    in_runs = {
        (network, family, number)
        for network, family, first, last in spans
        for number in range(int.from_bytes(first, "big"), int.from_bytes(last, "big") + 1)
    }
    return [] if (taken == in_runs, counts, whole) == (True, (0, 0), "ok") else [taken ^ in_runs, counts, whole]


def fork(work):
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a child must never run the rest of the test
        os._exit(1)


def come_and_go(directory, number):
    with Leases(directory, patience=PATIENCE) as leases:
        turn = 0
        while True:
            turn += 1
            lease = leases.assign(POOLS, claim(f"{os.getpid()}-{number}-{turn}"))
            leases.activate(lease)
            leases.release(lease)


def reap(child):
    return os.waitpid(child, 0)[1]


def test_64_processes_get_126_addresses_and_no_more(tmp_path):
    def ask(number):
        with Leases(tmp_path, patience=PATIENCE) as leases:
            for turn in range(3):
                try:
                    leases.assign(POOLS, claim(f"{number}-{turn}"))
                except PoolExhausted:
                    return

    children = [fork(lambda number=number: ask(number)) for number in range(PROCESSES)]
    assert [reap(child) for child in children] == [0] * PROCESSES
    with Leases(tmp_path) as leases:
        held = leases.of("net")
        assert [usage.used for pools in POOLS for usage in leases.usage("net", pools)] == [126, 126]
    addresses = [given.address for lease in held for given in lease.addresses]
    assert len(addresses) == len(set(addresses)) == 252
    assert problems(tmp_path) == []


def test_killed_at_any_moment_the_file_never_contradicts_itself(tmp_path):
    Leases(tmp_path).close()
    for _ in range(4):
        children = [fork(lambda number=number: come_and_go(tmp_path, number)) for number in range(8)]
        size = (tmp_path / FILE).with_name(f"{FILE}-wal")
        eventually(lambda size=size: size.exists() and size.stat().st_size > 100_000)
        for child in children:
            os.kill(child, signal.SIGKILL)
        assert {os.WTERMSIG(reap(child)) for child in children} == {signal.SIGKILL}
        assert problems(tmp_path) == []


FILL = """
import sys
from pathlib import Path
from ipam.errors import LeasesInaccessible
from ipam.leases import Leases
from tests.kernel.test_ipam_attacks import POOLS, claim, problems
directory = Path(sys.argv[1])
given = 0
try:
    with Leases(directory) as leases:
        for number in range(126):
            leases.assign(POOLS, claim(f"{'long' * 50}{number}"))
            given += 1
except LeasesInaccessible as error:
    print(error)
else:
    print("never full")
if given:
    with Leases(directory) as leases:
        held = leases.of("net")
    assert len(held) == given, (len(held), given)
    assert problems(directory) == []
print("left", sorted(path.name for path in directory.iterdir()))
"""


def fill(directory, size):
    """Fill the file on a file system of this size, in a mount namespace of its own."""
    mounted = f'mount -t tmpfs -o size={size} none "$1" && exec "$2" -c "$3" "$1"'
    argv = ["unshare", "--mount", "sh", "-ec", mounted, "sh", str(directory), sys.executable, FILL]
    root = Path(__file__).parents[2]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=root, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_disk_too_small_for_the_file_is_named_and_nothing_is_left_on_it(tmp_path):
    said = fill(tmp_path, "32k")
    assert f"{FILE}" in said
    assert "look at the disk" in said
    assert "left []" in said


@pytest.mark.parametrize("size", ["256k", "384k"])
def test_disk_that_fills_up_loses_no_lease_and_doubles_none(tmp_path, size):
    said = fill(tmp_path, size)
    assert "look at the disk" in said
    assert FILE in said
