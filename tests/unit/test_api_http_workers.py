"""Threads for requests: every request gets one, however long the others take."""

import queue
import threading
import time

import pytest

from api.workers import Workers
from tests.waiting import eventually


class Connection:
    """A request that takes until it is let go."""

    def __init__(self, *, patient=True, stays=False):
        self.server = self
        self.began, self.let_go, self.closed = threading.Event(), threading.Event(), threading.Event()
        self.put_back = 0
        self._stays = stays
        if not patient:
            self.let_go.set()

    def communicate(self):
        self.began.set()
        self.let_go.wait(120)
        return self._stays

    def put_conn(self, conn):
        assert conn is self
        self.put_back += 1

    def close(self):
        self.closed.set()


class Broken(Connection):
    def communicate(self):
        raise RuntimeError("a bug in a request")


def finish(connections):
    for conn in connections:
        conn.let_go.set()


def test_no_request_waits_for_a_watch():
    workers = Workers()
    watches = []
    for _ in range(100):
        quick = Connection(patient=False)
        workers.put(quick)
        watch = Connection()
        workers.put(watch)
        watches.append(watch)

    assert all(watch.began.wait(60) for watch in watches)
    finish(watches)


def test_idle_threads_are_used_again_and_go_after_a_while():
    workers = Workers(idle_seconds=0.05)
    before = threading.active_count()
    for _ in range(200):
        conn = Connection(patient=False)
        workers.put(conn)
        assert conn.closed.wait(60)

    eventually(lambda: threading.active_count() <= before)


def test_a_connection_put_while_its_thread_gives_up_is_still_answered():
    workers = Workers(idle_seconds=0.001)
    for _ in range(300):
        conn = Connection(patient=False)
        workers.put(conn)
        assert conn.closed.wait(60)
        deadline = time.monotonic() + 0.001  # about when the idle thread gives up
        while time.monotonic() < deadline:
            pass


def test_too_many_requests_are_refused():
    workers = Workers(most=3)
    held = [Connection() for _ in range(3)]
    for conn in held:
        workers.put(conn)

    with pytest.raises(queue.Full):
        workers.put(Connection())
    finish(held)


def test_a_connection_that_stays_open_goes_back_to_its_server():
    workers = Workers()
    conn = Connection(patient=False, stays=True)
    workers.put(conn)

    eventually(lambda: conn.put_back == 1)
    assert not conn.closed.is_set()


def test_a_bug_in_one_request_ends_only_that_one():
    workers = Workers(most=1)
    broken = Broken()
    workers.put(broken)
    assert broken.closed.wait(60)
    eventually(lambda: workers.idle == 1)
    after = Connection(patient=False)
    workers.put(after)

    assert after.closed.wait(60)


def test_stopping_waits_for_requests_but_not_forever():
    workers = Workers()
    held = Connection()
    workers.put(held)
    began = time.monotonic()
    workers.stop(0.2)
    took = time.monotonic() - began
    is_held = not held.closed.is_set()
    held.let_go.set()
    workers.stop(60)

    assert (took >= 0.2, is_held, held.closed.is_set()) == (True, True, True)
