"""The program that says who answered, run as its pods run it: without site packages, on loopback."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from lab import echo, state
from tests.waiting import eventually

WHO = {"POD_NAME": "web-1", "POD_NAMESPACE": "demo", "POD_NODE": "node2"}


@pytest.fixture
def server():
    port = state.free_port(20000)
    process = subprocess.Popen([sys.executable, "-I", "-S", echo.__file__, str(port)], env=WHO)
    eventually(lambda: not state.is_port_free(port))
    yield port, process
    process.kill()
    process.wait()


def get(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as response:
        return json.load(response)


def answer_of(client):
    # The program opens its port for datagrams a moment after that for connections.
    with contextlib.suppress(ConnectionRefusedError):
        client.send(b"who?")
        return json.loads(client.recv(4096))


def test_http_is_answered_with_pod_node_and_client(server):
    port, _ = server

    answer = get(port)

    client = answer.pop("client")
    assert answer == {"pod": "web-1", "namespace": "demo", "node": "node2"}
    assert client.startswith("127.0.0.1:")


def test_a_client_of_ipv6_is_named_in_brackets():
    assert b'"client": "[fd00::7]:99"' in echo.answer("fd00::7", 99)


def test_a_datagram_is_answered_with_the_address_it_came_from(server):
    port, _ = server
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(60)
        client.connect(("127.0.0.1", port))
        answer = eventually(lambda: answer_of(client))

        assert answer["client"] == f"127.0.0.1:{client.getsockname()[1]}"


def test_after_sigterm_it_answers_for_a_moment_and_then_ends_well(server):
    port, process = server

    process.send_signal(signal.SIGTERM)

    assert get(port)["pod"] == "web-1"
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    "nonsense", [b"", b"\0" * 20000, b"GET / HTTP/1.1\r\n" + b"x" * 9000], ids=["nothing", "zeros", "endless header"]
)
def test_nonsense_does_not_stop_it(server, nonsense):
    port, _ = server
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(nonsense)

    assert get(port)["pod"] == "web-1"


def test_a_client_that_says_nothing_keeps_nobody_waiting(server):
    port, _ = server
    with socket.create_connection(("127.0.0.1", port), timeout=60):
        assert get(port)["pod"] == "web-1"
