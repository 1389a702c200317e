"""The store: a guarded, all-or-nothing commit, lists at a revision, events after one, and what it says when damaged."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from api.store.sqlite import SqliteStore
from api.store.store import Compacted, Entry, Event, Guard, GuardFailed, StoreDamaged, StoreUnavailable, Write


@pytest.fixture
def store():
    made = SqliteStore(":memory:")
    yield made
    made.close()


def put(store, key, value=b"v"):
    return store.commit([], [Write(key=key, value=value)])


def test_an_empty_store_is_at_revision_0(store):
    assert store.revision == 0
    assert store.list("").entries == ()


def test_every_commit_moves_the_revision_by_one(store):
    assert [put(store, key) for key in "abc"] == [1, 2, 3]


class _Witness:
    """A lock that notes, at the moment it lets the next one in, which revision the store tells."""

    def __init__(self, store):
        self.store, self.told = store, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.told.append(self.store.revision)


def test_a_commit_is_told_before_the_next_one_can_begin(store):
    store._lock = witness = _Witness(store)

    assert [put(store, "a"), put(store, "b")] == witness.told


def test_an_entry_carries_the_revision_that_wrote_it(store):
    put(store, "a", b"old")
    put(store, "a", b"new")

    assert store.get("a") == Entry(key="a", value=b"new", revision=2)


def test_all_writes_of_a_commit_share_its_revision(store):
    store.commit([], [Write(key="a", value=b"1"), Write(key="b", value=b"2")])

    assert {entry.revision for entry in store.list("").entries} == {1}


def test_a_guard_on_an_absent_key_holds_until_it_is_there(store):
    store.commit([Guard(key="a", revision=0)], [Write(key="a", value=b"1")])

    with pytest.raises(GuardFailed) as failure:
        store.commit([Guard(key="a", revision=0)], [Write(key="a", value=b"2")])
    assert (failure.value.guard.key, failure.value.found) == ("a", 1)


def test_one_failed_guard_keeps_every_write_out(store):
    put(store, "a")

    with pytest.raises(GuardFailed):
        store.commit(
            [Guard(key="b", revision=0), Guard(key="a", revision=7)],
            [Write(key="b", value=b"1"), Write(key="a", value=None)],
        )
    assert [entry.key for entry in store.list("").entries] == ["a"]
    assert store.revision == 1


def test_a_list_has_the_prefix_in_key_order_and_its_revision(store):
    for key in ("/b/2", "/a/1", "/b/1", "/c", "/b\U0010fffe"):
        put(store, key)

    listing = store.list("/b/")
    assert [entry.key for entry in listing.entries] == ["/b/1", "/b/2"]
    assert listing.revision == 5


def test_events_say_what_was_before(store):
    put(store, "a", b"1")
    put(store, "a", b"2")
    store.commit([], [Write(key="a", value=None)])

    first = Entry(key="a", value=b"1", revision=1)
    second = Entry(key="a", value=b"2", revision=2)
    assert store.events(0) == (
        Event(revision=1, key="a", value=b"1", previous=None),
        Event(revision=2, key="a", value=b"2", previous=first),
        Event(revision=3, key="a", value=None, previous=second),
    )
    assert [event.revision for event in store.events(2)] == [3]


def test_old_events_are_forgotten_and_asking_for_them_says_so():
    store = SqliteStore(":memory:", kept=10)
    for _ in range(20):
        put(store, "a")

    with pytest.raises(Compacted) as failure:
        store.events(5)
    assert failure.value.oldest == store.oldest == 10
    assert len(store.events(store.oldest)) == 10


def test_everything_is_there_after_reopening(tmp_path):
    store = SqliteStore(tmp_path / "store.db")
    put(store, "a", b"1")
    put(store, "b", b"2")
    store.close()

    again = SqliteStore(tmp_path / "store.db")
    assert again.revision == 2
    assert [entry.key for entry in again.list("").entries] == ["a", "b"]
    assert len(again.events(0)) == 2
    again.close()


def test_a_second_server_on_the_same_file_is_refused(tmp_path):
    store = SqliteStore(tmp_path / "store.db")

    with pytest.raises(StoreUnavailable, match="another podwire-api"):
        SqliteStore(tmp_path / "store.db")
    store.close()
    SqliteStore(tmp_path / "store.db").close()


@pytest.mark.parametrize("content", [b"\x00" * 8192, b"not a database at all" * 300], ids=["zeros", "text"])
def test_a_file_that_is_no_database_is_named(tmp_path, content):
    (tmp_path / "store.db").write_bytes(content)

    with pytest.raises(StoreDamaged, match=str(tmp_path / "store.db")):
        SqliteStore(tmp_path / "store.db")


def test_a_database_of_another_program_is_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "store.db") as foreign:
        foreign.execute("CREATE TABLE theirs (a)")
    foreign.close()

    with pytest.raises(StoreDamaged, match="another program"):
        SqliteStore(tmp_path / "store.db")


def test_a_damaged_page_is_noticed_at_the_start(tmp_path):
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    for number in range(300):
        put(store, f"key-{number}", b"x" * 500)
    store.close()
    content = bytearray(path.read_bytes())
    for page in range(4, len(content) // 4096, 3):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(content)

    with pytest.raises(StoreDamaged, match=r"store\.db is damaged"):
        SqliteStore(path)


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreUnavailable, match="nowhere"):
        SqliteStore(tmp_path / "nowhere" / "store.db")


def test_of_many_writers_guarding_the_same_revision_one_wins(store):
    put(store, "a")
    wins = []

    def race(number):
        with contextlib.suppress(GuardFailed):
            wins.append(store.commit([Guard(key="a", revision=1)], [Write(key="a", value=b"%d" % number)]))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wins == [2]


KILLED_WRITER = """
import os, sys
from api.store.sqlite import SqliteStore
from api.store.store import Write
store = SqliteStore(sys.argv[1], kept=50)
number = store.revision
while True:
    number += 1
    store.commit([], [Write(key=f"a{number % 40}", value=b"%d" % number), Write(key=f"b{number % 40}", value=b"%d" % number)])
    os.write(1, b"%d\\n" % number)
"""


def test_kill_9_loses_nothing_that_was_acknowledged_and_keeps_no_half(tmp_path):
    path = tmp_path / "store.db"
    acknowledged = 0
    for round_ in range(6):
        writer = subprocess.Popen([sys.executable, "-c", KILLED_WRITER, path], stdout=subprocess.PIPE, text=True)
        for _ in range(20 + 17 * round_):
            acknowledged = int(writer.stdout.readline())
        writer.kill()
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
        writer.wait()
        writer.stdout.close()

        store = SqliteStore(path)
        entries = {entry.key: entry.value for entry in store.list("").entries}
        assert store.revision in {acknowledged, acknowledged + 1}
        assert all(entries[f"a{slot}"] == entries[f"b{slot}"] for slot in range(min(acknowledged, 40)) if slot)
        assert store.events(store.oldest)[-1].revision == store.revision
        store.close()


def test_a_full_disk_is_an_error_with_a_name_and_changes_nothing(tmp_path):
    store = SqliteStore(tmp_path / "store.db")
    put(store, "a")
    store._connection.execute("PRAGMA max_page_count = 12")  # SQLite's own way to run out of space

    with pytest.raises(StoreUnavailable, match="full"):
        put(store, "b", b"x" * 100_000)
    assert [entry.key for entry in store.list("").entries] == ["a"]
    assert put(store, "c") == 2
    store.close()


def test_the_store_is_readable_by_its_owner_only(tmp_path):
    SqliteStore(tmp_path / "store.db").close()

    assert Path(tmp_path / "store.db").stat().st_mode & 0o077 == 0
