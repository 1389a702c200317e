"""300 pods come and go at once while the agent is killed again and again; afterwards everything is as it must be."""

import contextlib
import itertools
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cni.host import linux_host
from cni.spec import Code
from node.garbage import GarbageCollector
from tests import cni_checker
from tests.cni_plugin import PluginNode, finish
from tests.namespaces import Namespace, new_name
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
PODS, AT_ONCE = 300, 16
KILLS = 2  # of the agent while all pods are added, and as many while they are deleted
CONF = {
    "ipam": {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.0.0/23"}]], "routes": [{"dst": "0.0.0.0/0"}]},
    "ipMasq": True,
    "sourceCheck": True,
}


@contextlib.contextmanager
def many_namespaces(count: int) -> Iterator[list[Namespace]]:
    """Made and removed by one process each, not by one for every namespace."""
    names = [new_name("many") for _ in range(count)]

    def batch(verb: str) -> None:
        lines = "".join(f"netns {verb} {name}\n" for name in names)
        subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True, timeout=300)

    batch("add")
    try:
        yield [Namespace(name) for name in names]
    finally:
        batch("delete")


class Agent:
    """The agent's socket, served by a process that dies at any moment and is started again."""

    def __init__(self, node: PluginNode) -> None:
        self.node, self.process, self.deaths = node, self.start(node), 0

    @staticmethod
    def start(node: PluginNode) -> subprocess.Popen:
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        return node.namespace.start(
            *(sys.executable, "-m", "tests.bench.cni_agent", str(node.socket_path)), cwd=ROOT, env=environ
        )

    def die(self) -> None:
        self.process.kill()
        self.process.wait()
        self.deaths += 1
        self.process = self.start(self.node)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path, CONF)


@contextlib.contextmanager
def collecting(node: PluginNode) -> Iterator[None]:
    """The agent's collector, which must not take a living pod for a dead one. Its clock runs so fast that it has no patience."""
    stop = threading.Event()

    def run() -> None:
        seconds = itertools.count(0, 60)
        with contextlib.closing(linux_host()) as host:
            collector = GarbageCollector("net", node.state, host, clock=seconds.__next__)
            while not stop.wait(0.2):
                collector.sync()

    thread = threading.Thread(target=lambda: node.namespace.call(run))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def as_a_runtime(node: PluginNode, command: str, pod: Namespace, **changes) -> dict:
    """Call, and take back and call once more when told to: a machine that stood still has lost patience with its agent."""
    while (answer := finish(node.start(command, pod, **changes))).get("code") == Code.TRY_AGAIN_LATER:
        finish(node.start("DEL", pod, **changes))
    return answer


def in_parallel(node: PluginNode, agent: Agent, calls: list[tuple[str, int, Namespace]]) -> list[dict]:
    """Execute the calls in any order while the agent dies after each part of them."""
    done = itertools.count(1)
    deadly = {len(calls) * part // (KILLS + 1) for part in range(1, KILLS + 1)}

    def execute(call: tuple[str, int, Namespace]) -> dict:
        command, number, pod = call
        wanted = {"portMappings": [{"hostPort": 20_000 + number, "containerPort": 80}]}
        answer = as_a_runtime(node, command, pod, runtimeConfig=wanted)
        if next(done) in deadly:
            agent.die()
        return answer

    random.shuffle(calls)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(execute, calls))


@pytest.mark.timeout(900)
def test_300_pods_and_a_dying_agent_leave_nothing_wrong(node):
    agent = Agent(node)
    eventually(node.socket_path.exists)
    with many_namespaces(PODS) as pods, collecting(node):
        try:
            added = in_parallel(node, agent, [("ADD", number, pod) for number, pod in enumerate(pods)])
            assert [answer for answer in added if answer["exit"]] == []
            assert cni_checker.violations(node.namespace, node.state, pods) == []

            kept, gone = pods[: PODS // 2], pods[PODS // 2 :]
            deleted = in_parallel(node, agent, [("DEL", PODS // 2 + number, pod) for number, pod in enumerate(gone)])
            assert {answer["exit"] for answer in deleted} == {0}
            assert cni_checker.violations(node.namespace, node.state, kept) == []

            nobody = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}
            assert node.execute("GC", pods[0], **nobody) == {"exit": 0}
            assert cni_checker.violations(node.namespace, node.state, []) == []
            assert agent.deaths == 2 * KILLS
        finally:
            agent.stop()
