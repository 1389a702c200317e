"""kill -9 before and after every effect of a call, on the real kernel: nothing leaks and no address is double."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cni_plugin import PluginNode
from tests.namespaces import namespace
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
# One address and one port: a leaked one shows at once.
CONF = {
    "ipam": {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/30"}]]},
    "ipMasq": True,
    "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "udp"}]},
}


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path, CONF)


@pytest.fixture
def kill_at(node):
    """Run a call that dies at a step; False when it had ended before."""
    killer = node.namespace.start(
        sys.executable,
        "-m",
        "tests.cni_killer",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    def run(step: int, command: str, pod) -> bool:
        order = {"step": step, "command": command, "pod": pod.name, "netns": pod.path, "stdin": node.stdin().decode()}
        killer.stdin.write(json.dumps(order) + "\n")
        killer.stdin.flush()
        return {"killed": True, "ended": False}[killer.stdout.readline().strip()]

    yield run
    killer.stdin.close()
    assert killer.wait(10) == 0
    killer.stdout.close()


def deaths(node, kill_at, command):
    """A pod for every step at which the call was killed. The node starts clean each time, or the test has failed."""
    for step in itertools.count(1):
        with namespace("pod") as pod:
            if command == "DEL":
                assert node.call("ADD", pod)["exit"] == 0
            was_killed = kill_at(step, command, pod)
            if was_killed:
                yield pod
            node.call("DEL", pod)
            assert (node.leased(), node.veths(), publishes(node)) == ({}, [], False)
            if not was_killed:
                assert step > 5, "the call has hardly any steps: is the fail point connected?"
                return


def publishes(node) -> bool:
    return "8080" in node.namespace.run("nft", "list", "ruleset")


def links(pod) -> set[str]:
    return {link["ifname"] for link in json.loads(pod.run("ip", "-json", "link"))}


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_delete_removes_what_any_killed_call_left(node, kill_at, command):
    for pod in deaths(node, kill_at, command):
        assert node.call("DEL", pod) == {"exit": 0}
        assert (node.leased(), node.veths(), links(pod), publishes(node)) == ({}, [], {"lo"}, False)


def test_repeated_add_after_any_killed_add_ends_with_one_pod(node, kill_at):
    for pod in deaths(node, kill_at, "ADD"):
        is_finished = "active" in node.states()
        assert node.call("ADD", pod).get("code") == (101 if is_finished else None)
        assert (node.leased(), len(node.veths())) == ({pod.name: "10.244.1.2"}, 1)
        assert "10.244.1.2" in pod.run("ip", "-4", "address", "show", "eth0")
        assert publishes(node)


def test_another_pod_gets_the_address_once_the_killed_ones_namespace_is_gone(node, kill_at):
    for step in itertools.count(1):
        with namespace("gone") as gone:
            was_killed = kill_at(step, "ADD", gone)
        with namespace("next") as pod:
            # The kernel takes a namespace apart some time after its last reference is gone, and its veth with it.
            eventually(lambda: not node.veths())
            answer = node.call("ADD", pod)
            assert (answer["exit"], node.leased(), len(node.veths())) == (0, {pod.name: "10.244.1.2"}, 1)
            node.call("DEL", pod)
        if not was_killed:
            return
