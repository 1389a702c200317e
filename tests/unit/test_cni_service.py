"""The agent's half of a call: its own namespace only, the pod's through the descriptor only."""

import json
import os
import socket

import pytest

from cni import service, wire
from tests.cni_node import FakeNode, environment, netconf


@pytest.fixture
def node(tmp_path) -> FakeNode:
    return FakeNode(tmp_path / "state")


def ask(node: FakeNode, environ: dict[str, str], *, caller=None, fds=(), **changes) -> bytes:
    """What a shim would send and get."""
    own = node.host().own_netns
    facts = {**environ, wire.CALLER_VARIABLE: caller or f"{own.device}:{own.inode}"}
    block = "\0".join(f"{name}={value}" for name, value in facts.items()).encode()
    stdin = json.dumps(netconf(node.directory, **changes)).encode()
    lengths = len(block).to_bytes(4, "big") + len(stdin).to_bytes(4, "big")
    shim, agent = socket.socketpair()
    with shim:
        socket.send_fds(shim, [wire.MAGIC + lengths], list(fds))
        shim.sendall(block + stdin)
        with agent:
            service.answer(agent, node.host())
        return b"".join(iter(lambda: shim.recv(65536), b""))


def test_answer_is_the_dispatchers(node):
    answer = ask(node, {"CNI_COMMAND": "ADD"})
    assert answer[0] == 1
    assert json.loads(answer[5:])["code"] == 4


def test_caller_in_another_namespace_is_sent_to_do_it_alone(node):
    answer = ask(node, environment("DEL", "web", ""), caller="4:1")
    assert answer == bytes([wire.RUN_ALONE]) + bytes(4)
    assert not node.directory.exists()


def test_path_is_not_opened_when_the_shim_could_not(node):
    pod = node.pod("web")
    answer = json.loads(ask(node, environment("ADD", "web", pod.path))[5:])
    assert (answer["code"], "could not open it" in answer["details"]) == (8, True)


def test_descriptor_that_is_no_namespace_is_refused(node, tmp_path):
    with open(tmp_path / "file", "w") as file:
        answer = json.loads(ask(node, environment("ADD", "web", "/run/netns/web"), fds=[file.fileno()])[5:])
    assert answer["code"] == 8


def test_no_descriptor_is_left_open(node, tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with open(tmp_path / "file", "w") as file:
        for _ in range(5):
            ask(node, environment("ADD", "web", "/run/netns/web"), fds=[file.fileno(), file.fileno()])
    assert len(os.listdir("/proc/self/fd")) == before


def test_garbage_is_answered_with_silence(node):
    shim, agent = socket.socketpair()
    with shim, agent:
        shim.sendall(b"\0" * wire.HEADER)
        service.answer(agent, node.host())
        agent.close()
        assert shim.recv(1) == b""
