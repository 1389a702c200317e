"""The plugin's socket: private, one owner, bounded, and not to be stopped by a bad client."""

import json
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from cni import install, wire
from dataplane import atomic_file
from node.cni_service import CniService, SocketTaken
from tests.waiting import eventually


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., CniService]]:
    """Start services on one socket; all are stopped after the test."""
    started: list[CniService] = []

    def start(exchange: Callable[[socket.socket], None] | None = None, **settings: float) -> CniService:
        service = CniService(tmp_path / "cni.sock", lambda: exchange or echo, **({"workers": 4} | settings))
        service.start()
        started.append(service)
        return service

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cni.sock"


def echo(connection: socket.socket) -> None:
    connection.sendall(connection.recv(1000))


def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    try:
        client.connect(str(path))
    except OSError:
        client.close()
        raise
    return client


def exchange(client: socket.socket, path: Path) -> bytes:
    client.connect(str(path))
    client.sendall(b"hello")
    return client.recv(1000)


def ask(path: Path, text: bytes = b"hello") -> bytes:
    with connected(path) as client:
        client.sendall(text)
        return client.recv(1000)


def test_a_request_is_answered(serve, path: Path) -> None:
    serve()
    assert ask(path) == b"hello"


def test_only_its_owner_may_use_the_socket(serve, path: Path) -> None:
    serve()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_socket_of_a_killed_agent_is_replaced(serve, path: Path) -> None:
    code = f"""
import os, pathlib
from node.cni_service import CniService
CniService(pathlib.Path({str(path)!r}), lambda: print, workers=0).start()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], timeout=120)
    assert path.is_socket()
    serve()
    assert ask(path) == b"hello"


def test_a_second_agent_is_refused_and_told_who_serves(serve, path: Path) -> None:
    serve()
    with pytest.raises(SocketTaken, match=r"process \d+ serves it already"):
        CniService(path, lambda: echo).start()
    assert ask(path) == b"hello"


def test_the_folder_is_made(tmp_path: Path) -> None:
    service = CniService(tmp_path / "run" / "podwire" / "cni.sock", lambda: echo)
    service.start()
    service.stop()
    assert (tmp_path / "run" / "podwire").is_dir()


def test_no_more_requests_run_than_there_are_workers_and_the_rest_wait(serve, path: Path) -> None:
    running, most, release = [], [], threading.Event()

    def slow(connection: socket.socket) -> None:
        running.append(connection)
        most.append(len(running))
        release.wait(60)
        running.remove(connection)
        echo(connection)

    serve(slow, workers=3)
    answers: list[bytes] = []
    clients = [threading.Thread(target=lambda: answers.append(ask(path))) for _ in range(12)]
    for client in clients:
        client.start()
    eventually(lambda: len(running) == 3)
    release.set()
    for client in clients:
        client.join()
    assert (answers, max(most)) == ([b"hello"] * 12, 3)


@pytest.mark.parametrize("kind", ["compiled", "script"])
def test_who_comes_when_all_places_are_taken_is_told_to_try_again(serve, path: Path, tmp_path: Path, kind: str) -> None:
    begun, release = threading.Event(), threading.Event()

    def hold(connection: socket.socket) -> None:
        begun.set()
        wire.receive(connection)
        release.wait(120)
        wire.send(connection, exit_code=0, stdout=b"")

    serve(hold, workers=1, waiting=2)
    executable = tmp_path / "podwire"
    atomic_file.write(
        executable, install.render(Path(sys.executable), path, compiled=kind == "compiled", patience=2), mode=0o755
    )

    def call() -> subprocess.Popen:
        return subprocess.Popen(
            [executable], env={"CNI_COMMAND": "DEL"}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )

    served = call()
    assert begun.wait(60)
    answers = [each.communicate(timeout=100)[0] for each in [served, *(call() for _ in range(5))]]
    release.set()
    # One is served and two wait, in vain: they do the work themselves, and miss the container's id.
    assert sorted(json.loads(answer)["code"] for answer in answers) == [4, 4, 4, 11, 11, 11]


def test_stopping_finishes_what_runs_and_takes_no_more(serve, path: Path) -> None:
    begun, release = threading.Event(), threading.Event()

    def slow(connection: socket.socket) -> None:
        begun.set()
        release.wait(60)
        echo(connection)

    service = CniService(path, lambda: slow, workers=1)
    service.start()
    client = connected(path)
    client.sendall(b"running")
    assert begun.wait(60)
    stopping = threading.Thread(target=service.stop)
    stopping.start()
    eventually(lambda: not path.exists())
    with pytest.raises(FileNotFoundError):
        connected(path)
    release.set()
    stopping.join(60)
    assert client.recv(1000) == b"running"
    client.close()


def test_a_stopped_agent_makes_room_for_the_next(serve, path: Path) -> None:
    first = CniService(path, lambda: echo)
    first.start()
    first.stop()
    serve()
    assert ask(path) == b"hello"


@pytest.mark.parametrize("failure", [ValueError("defect"), OSError("gone"), TimeoutError()])
def test_a_failing_request_does_not_cost_the_worker(serve, path: Path, failure: Exception) -> None:
    def fail_on_bad(connection: socket.socket) -> None:
        text = connection.recv(1000)
        if text == b"bad":
            raise failure
        connection.sendall(text)

    serve(fail_on_bad, workers=1)
    with structlog.testing.capture_logs() as logs:
        answers = [ask(path, text) for text in (b"bad", b"bad", b"good")]
    assert answers == [b"", b"", b"good"]
    assert len(logs) == 2


def test_a_client_that_says_nothing_is_given_up(serve, path: Path) -> None:
    serve(workers=1, patience=1)
    with connected(path) as silent:
        assert ask(path) == b"hello"
        assert silent.recv(1000) == b""


def test_a_client_that_leaves_at_once_is_no_failure(serve, path: Path) -> None:
    serve(workers=1)
    connected(path).close()
    assert ask(path) == b"hello"


def test_a_worker_outlives_a_lack_of_descriptors(serve, path: Path) -> None:
    serve(workers=1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        with structlog.testing.capture_logs() as logs:
            resource.setrlimit(resource.RLIMIT_NOFILE, (1, limits[1]))
            try:
                # Two: a descriptor may have been reserved for one when the worker began to wait.
                for client in (first, second):
                    client.settimeout(60)
                    client.connect(str(path))
                    client.sendall(b"hello")
                eventually(lambda: bool(logs))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert (first.recv(1000), second.recv(1000)) == (b"hello", b"hello")


def test_a_worker_that_cannot_begin_tries_again(path: Path) -> None:
    refusals = [OSError("no descriptors")]

    def open_exchange() -> Callable[[socket.socket], None]:
        if refusals:
            raise refusals.pop()
        return echo

    service = CniService(path, open_exchange, workers=1)
    service.start()
    try:
        assert ask(path) == b"hello"
    finally:
        service.stop()


def test_a_path_that_cannot_be_a_socket_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        CniService(tmp_path / "file" / "cni.sock", lambda: echo).start()


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="longer than 106 bytes"):
        CniService(tmp_path / ("x" * 107), lambda: echo).start()
