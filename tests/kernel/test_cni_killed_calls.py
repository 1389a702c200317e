"""kill -9 at every step of a call, on the real kernel: what comes next finds everything, and nobody else is harmed.

Each loop goes on until a call has no more steps, so a step that is added later is killed as well. A witness pod lives
through all of it.
"""

import itertools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import cni_checker
from tests.cni_node import environment, netconf
from tests.cni_plugin import PluginNode
from tests.namespaces import namespace
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
# Room for the witness and one more: a leaked address shows at once. Pods of no other test have these: the number of a
# namespace that is gone may soon be that of theirs, and then its lease would stay.
CONF = {
    "cniVersion": "1.1.0",
    "ipam": {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.217.0/29", "rangeEnd": "10.244.217.3"}]]},
    "ipMasq": True,
    "sourceCheck": True,
}
WANTED = {
    "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "udp"}],
    "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 8_000_000},
}
FEWEST_STEPS = 25
NOBODY = {"cni.dev/valid-attachments": []}


class Caller:
    """Makes calls on the node, and kills them at a step."""

    def __init__(self, node: PluginNode, process: subprocess.Popen) -> None:
        self.node, self.process = node, process

    def __call__(self, command: str, pod, *, step: int | None = None, **changes):
        """The answer; None when the call was killed."""
        conf = netconf(self.node.state, **{**CONF, "runtimeConfig": WANTED, **changes})
        environ = environment(command, pod.name, pod.path)
        order = {"step": step, "environ": environ, "stdin": json.dumps(conf)}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline()).get("answer")


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path)


@pytest.fixture
def call(node) -> Caller:
    killer = node.namespace.start(
        *(sys.executable, "-m", "tests.cni_killer"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    yield Caller(node, killer)
    killer.stdin.close()
    assert killer.wait(60) == 0
    killer.stdout.close()


@pytest.fixture
def witness(node, call, make_namespace):
    """A pod that must not notice anything."""
    pod = make_namespace("witness")
    call("ADD", pod, runtimeConfig={})
    yield pod
    with pod.call(lambda: socket.create_server(("", 7000))) as listener:
        listener.settimeout(30)
        with node.namespace.call(lambda: socket.create_connection(("10.244.217.2", 7000), timeout=30)):
            listener.accept()[0].close()


def wrong(node, *pods) -> list[str]:
    return cni_checker.violations(node.namespace, node.state, pods)


def deaths(call, command: str, pod):
    """Kill the command at one step after the other, until it ends."""
    for step in itertools.count(1):
        if command == "DEL":
            assert "code" not in call("ADD", pod)
        if call(command, pod, step=step) is not None:
            assert step > FEWEST_STEPS, "the call has hardly any steps: are they still seen?"
            return
        yield step


@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
@pytest.mark.parametrize("remedy", ["DEL", "GC"])
def test_nothing_is_left_of_a_killed_call(node, call, witness, make_namespace, command, remedy):
    pod = make_namespace("pod")
    kept = {"cni.dev/valid-attachments": [{"containerID": witness.name, "ifname": "eth0"}]}
    for step in deaths(call, command, pod):
        assert call(remedy, pod, **kept) == {}, step
        assert wrong(node, witness, pod) == [], step
    call("DEL", pod)
    assert wrong(node, witness, pod) == []


@pytest.mark.timeout(900)
def test_add_after_any_killed_add_ends_with_one_whole_pod(node, call, witness, make_namespace):
    pod = make_namespace("pod")
    for step in deaths(call, "ADD", pod):
        is_finished = "active" in [each.state for each in cni_checker.leased(node.state) if each.container == pod.name]
        answer = call("ADD", pod)
        assert answer.get("code") == (101 if is_finished else None), (step, answer)
        assert wrong(node, witness, pod) == [], step
        assert cni_checker.addresses(pod) == {"10.244.217.3"}, step
        call("DEL", pod)


@pytest.mark.timeout(900)
def test_another_pod_gets_everything_once_the_killed_ones_namespace_is_gone(node, call, witness, make_namespace):
    pod = make_namespace("pod")
    for step in itertools.count(1, 4):  # which step of four leaves which state, the other tests have seen
        with namespace("gone") as gone:
            was_killed = call("ADD", gone, step=step) is None
        # The kernel takes a namespace apart some time after its last reference is gone, and its veth with it.
        eventually(lambda: len(cni_checker.ports(node.namespace)) == 1)
        answer = call("ADD", pod)
        assert (answer.get("code"), wrong(node, witness, pod)) == (None, []), (step, answer)
        call("DEL", pod)
        if not was_killed:
            return
