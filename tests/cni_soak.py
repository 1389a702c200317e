"""Pods that come and go at an agent's socket, many times: what a shim sends, without the shim."""

import contextlib
import itertools
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cni import wire
from tests.cni_node import environment, netconf
from tests.namespaces import Namespace, namespace

AT_ONCE = 8


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Soak:
    """A few pods of one node, each with everything the plugin does for one."""

    def __init__(self, node: Namespace, directory: Path, stack: contextlib.ExitStack) -> None:
        self._socket, self._own = str(directory / "cni.sock"), os.stat(node.path)
        self._state = directory / "state"
        self._pods = [stack.enter_context(namespace("pod")) for _ in range(AT_ONCE)]
        self._numbers = itertools.count()

    def run(self, rounds: int) -> None:
        """So many ADDs, each with its DEL."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(self._come_and_go, range(AT_ONCE), [rounds // AT_ONCE] * AT_ONCE):
                pass

    def _come_and_go(self, which: int, rounds: int) -> None:
        for _ in range(rounds):
            container = f"soak-{next(self._numbers)}"
            for command in ("ADD", "DEL"):
                self._call(command, container, which)

    def _call(self, command: str, container: str, which: int) -> None:
        pod = self._pods[which]
        wanted = {"portMappings": [{"hostPort": 8000 + which, "containerPort": 80}]}
        conf = netconf(self._state, ipMasq=True, sourceCheck=True, runtimeConfig=wanted)
        conf["ipam"]["cooldownSeconds"] = 0
        facts = {
            **environment(command, container, pod.path),
            "PODWIRE_REQUEST": container + command,
            wire.CALLER_VARIABLE: f"{self._own.st_dev}:{self._own.st_ino}",
        }
        block = "\0".join(f"{name}={value}" for name, value in facts.items()).encode()
        stdin = json.dumps(conf).encode()
        header = wire.MAGIC + len(block).to_bytes(4, "big") + len(stdin).to_bytes(4, "big")
        with socket.socket(socket.AF_UNIX) as agent, open(pod.path) as netns:
            agent.connect(self._socket)
            socket.send_fds(agent, [header], [netns.fileno()])
            agent.sendall(block + stdin)
            answer = b"".join(iter(lambda: agent.recv(65536), b""))
        assert answer[:1] == b"\0", answer
