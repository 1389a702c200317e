"""The CNI plugin, executed as a runtime does and served by an agent, against the reference bridge with host-local."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests import namespaces
from tests.bench.timing import Comparison, compare, timed
from tests.cni_node import environment
from tests.cni_plugin import PluginNode
from tests.namespaces import Namespace
from tests.waiting import eventually

TITLE = "CNI calls, one after the other"
REFERENCE = "/usr/lib/cni"
ROUNDS = 20


def measure() -> Iterator[Comparison]:
    for masquerade in (False, True):
        suffix = " with ipMasq" if masquerade else ""
        with _node() as ours, namespaces.namespace("peer") as peer, namespaces.namespace("pod") as pod:
            yield from _calls(ours, peer, pod, masquerade=masquerade, suffix=suffix)


def _calls(ours: PluginNode, peer: Namespace, pod: Namespace, *, masquerade: bool, suffix: str) -> Iterator[Comparison]:
    """ADD and DEL in turn: each DEL makes room for the next ADD, so both verbs are timed in one pass."""
    deletions: list[tuple[float, float]] = []

    def delete_ours() -> float:
        return timed(lambda: _succeed(ours.execute("DEL", pod, ipMasq=masquerade)))

    def add_ours() -> float:
        seconds = timed(lambda: _succeed(ours.execute("ADD", pod, ipMasq=masquerade)))
        deletions.append((delete_ours(), 0.0))
        return seconds

    def add_peer() -> float:
        seconds = timed(lambda: _reference(peer, pod, "ADD", ours.directory, masquerade=masquerade))
        deleted = timed(lambda: _reference(peer, pod, "DEL", ours.directory, masquerade=masquerade))
        deletions[-1] = (deletions[-1][0], deleted)
        return seconds

    yield compare(f"ADD{suffix}", add_ours, add_peer, rounds=ROUNDS)
    mine, theirs = zip(*deletions[1:], strict=True)
    yield compare(f"DEL{suffix}", iter(mine).__next__, iter(theirs).__next__, rounds=ROUNDS, warmup=0)


@contextlib.contextmanager
def _node() -> Iterator[PluginNode]:
    """A node whose agent's socket is served by a process of its own."""
    with namespaces.namespace("node") as place, tempfile.TemporaryDirectory() as directory:
        node = PluginNode(place, Path(directory))
        agent = place.start(sys.executable, "-m", "tests.bench.cni_agent", str(node.socket_path))
        try:
            eventually(node.socket_path.exists)
            yield node
        finally:
            agent.terminate()
            agent.wait()


def _reference(node: Namespace, pod: Namespace, command: str, directory: Path, *, masquerade: bool) -> None:
    conf = {
        "cniVersion": "1.0.0",
        "name": "reference",
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": True,
        "ipMasq": masquerade,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(directory / "reference"),
            "ranges": [[{"subnet": "10.99.0.0/24"}]],
        },
    }
    environ = {**environment(command, pod.name, pod.path), "CNI_PATH": REFERENCE, "PATH": os.environ["PATH"]}
    done = subprocess.run(
        node.argv(f"{REFERENCE}/bridge"), env=environ, input=json.dumps(conf).encode(), capture_output=True
    )
    if done.returncode:
        raise RuntimeError(f"reference plugin: {done.stdout.decode()}{done.stderr.decode()}")


def _succeed(answer: dict[str, object]) -> None:
    if answer["exit"]:
        raise RuntimeError(f"podwire's plugin: {answer}")
