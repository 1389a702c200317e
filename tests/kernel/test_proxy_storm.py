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
from tests.service_node import ask
from tests.waiting import eventually

__all__ = ["api", "program"]

A_SECOND = 200
_AT_ONCE = 64


class Storm:
    """Connections as they were begun, and what did not work, with the moment of its beginning."""

    def __init__(self, proxy: Program, cluster_ip: str) -> None:
        self.answered = 0
        self.failures: list[tuple[float, str]] = []
        self._cluster_ip = cluster_ip
        self._stop = threading.Event()
        self._thread = threading.Thread(target=proxy.node.inside, args=("client", self._run))

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: self.answered > A_SECOND // 4)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def await_more(self, seconds: float) -> None:
        wanted = self.answered + len(self.failures) + A_SECOND * seconds
        eventually(lambda: self.answered + len(self.failures) > wanted, within=seconds * 10)

    def _run(self) -> None:
        # Threads begin in the namespace of the thread that starts them.
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
            began = time.monotonic()
            for count in itertools.count(1):
                if self._stop.wait(max(began + count / A_SECOND - time.monotonic(), 0)):
                    return
                pool.submit(self._connect)

    def _connect(self) -> None:
        began = time.monotonic()
        try:
            ask(self._cluster_ip, 80, timeout=10)
            self.answered += 1
        except OSError as error:
            self.failures.append((began, repr(error)))


@pytest.fixture
def storm(program) -> Iterator[Storm]:
    cluster_ip = program.create("web", A, B, C)
    program.await_targets(cluster_ip, A, B, C)
    with Storm(program, cluster_ip) as made:
        yield made


def is_listening(proxy: Program, starts: int) -> bool:
    return proxy.log.count("event=listed") >= 2 * starts


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_storm_passes_while_the_proxy_is_restarted(program, storm, number):
    for restart in range(2, 5):
        program.end(number)
        storm.await_more(0.5)
        program.start()
        eventually(lambda restart=restart: is_listening(program, restart))
        storm.await_more(0.5)

    assert storm.failures == []


def test_a_storm_passes_while_the_proxy_is_upgraded_in_place(program, storm):
    for restart in range(2, 5):
        program.end()
        other_version_in_place(program.node)
        program.start()
        eventually(lambda restart=restart: program.log.count("stand-in, which is gone now") == restart - 1)
        storm.await_more(0.5)

    assert storm.failures == []


def test_a_storm_passes_while_endpoints_are_replaced(program, storm):
    choices = itertools.cycle([(A,), (B, C), (A, B, C), (C, B), (B,)])
    for _ in range(12):
        program.change("web", *next(choices))
        storm.await_more(0.5)

    assert storm.failures == []


def test_a_storm_passes_a_second_after_somebody_flushed_the_table(program, storm):
    flushed = []
    for _ in range(3):
        flushed.append(time.monotonic())
        program.node.node.run("nft", "flush", "ruleset")
        storm.await_more(2)
    late = [failure for failure in storm.failures if all(not 0 <= failure[0] - moment < 1 for moment in flushed)]

    assert late == []
    assert storm.answered > 3 * A_SECOND
    assert "command=nft" in program.log
