"""A storm of connections to one Service while everything around it changes: none to a living endpoint fails.

Two hundred connections a second, begun on time whatever becomes of the ones before, each to its end. The process, the
API server and the node are those of tests/kernel/test_proxy_program.py.
"""

import concurrent.futures
import itertools
import signal
import threading
import time
from collections.abc import Iterator
from typing import Self

import pytest

from tests.kernel.test_proxy_program import A, B, C, Program, api, program
from tests.kernel.test_proxy_table import other_version_in_place
from tests.service_node import PATIENT, ask
from tests.waiting import eventually

__all__ = ["api", "program"]

A_SECOND = 200
_AT_ONCE = 64


class Storm:
    """Connections as they were begun, and what did not work, with the moments of its beginning and end."""

    def __init__(self, proxy: Program, cluster_ip: str) -> None:
        self.cluster_ip = cluster_ip
        self.answered = 0
        self.failures: list[tuple[float, float, str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=proxy.node.inside, args=("client", self._run))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def await_more(self, seconds: float) -> None:
        """Return after so many seconds' worth of connections: a busy machine takes longer for them."""
        wanted = self.answered + len(self.failures) + A_SECOND * seconds
        eventually(lambda: self.answered + len(self.failures) > wanted, within=60)

    def _run(self) -> None:
        # Threads begin in the namespace of the thread that starts them.
        pool = concurrent.futures.ThreadPoolExecutor(_AT_ONCE)
        began = time.monotonic()
        for count in itertools.count(1):
            if self._stop.wait(max(began + count / A_SECOND - time.monotonic(), 0)):
                break
            pool.submit(self._connect)
        pool.shutdown(cancel_futures=True)

    def _connect(self) -> None:
        began = time.monotonic()
        try:
            ask(self.cluster_ip, 80, timeout=PATIENT)
            self.answered += 1
        except OSError as error:
            self.failures.append((began, time.monotonic(), repr(error)))


@pytest.fixture
def storm(program) -> Iterator[Storm]:
    cluster_ip = program.create("web", A, B, C)
    program.await_targets(cluster_ip, A, B, C)
    with Storm(program, cluster_ip) as made:
        made.await_more(0.25)
        yield made


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_storm_passes_while_the_proxy_is_restarted(program, storm, number):
    for _ in range(3):
        program.end(number)
        storm.await_more(0.5)
        program.start()
        program.await_health()
        storm.await_more(0.5)

    assert storm.failures == []


def test_a_storm_passes_while_the_proxy_is_upgraded_in_place(program, storm):
    for upgrades in range(1, 4):
        program.end()
        other_version_in_place(program.node)
        program.start()
        eventually(lambda count=upgrades: program.log.count("stand-in, which is gone now") >= count)
        storm.await_more(0.5)

    assert storm.failures == []


def test_a_storm_passes_while_endpoints_are_replaced(program, storm):
    choices = itertools.cycle([(A,), (B, C), (A, B, C), (C, B), (B,)])
    for _ in range(12):
        program.change("web", *next(choices))
        storm.await_more(0.5)

    assert storm.failures == []


def test_a_storm_passes_once_the_table_that_somebody_flushed_is_repaired(program, storm):
    outages = []
    for _ in range(3):
        flushed = time.monotonic()
        program.node.node.run("nft", "flush", "ruleset")
        program.await_targets(storm.cluster_ip, A, B, C)
        outages.append((flushed, time.monotonic()))
        storm.await_more(2)

    def is_excused(began: float, ended: float) -> bool:
        """Whether it was under way while there was no table."""
        return any(began <= repaired and ended >= flushed for flushed, repaired in outages)

    assert [failure for failure in storm.failures if not is_excused(*failure[:2])] == []
    assert storm.answered > 3 * A_SECOND
    assert "command=nft" in program.log
