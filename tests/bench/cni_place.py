"""Two nodes beside each other, one with podwire and its agent, one with the reference plugins, and a runtime for either.

The runtime executes plugins from threads inside the node's namespace, so nothing but the plugins is timed, and passes
results along a chain as libcni does.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cni import install
from tests import namespaces
from tests.cni_node import environment
from tests.cni_plugin import PYTHON
from tests.namespaces import Namespace
from tests.waiting import eventually

REFERENCE = Path("/usr/lib/cni")
_PORT = 20_000
V4, V6 = [{"subnet": "10.99.0.0/24"}], [{"subnet": "fd00:99::/64"}]


@dataclass
class Runtime:
    """One node's. `chain` are the plugins with their configurations."""

    node: Namespace
    chain: list[tuple[Path, dict[str, Any]]]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, pod: Namespace, number: int = 0) -> float:
        """Seconds an ADD of the whole chain takes."""
        return self.node.call(lambda: self._add(pod, number))

    def delete(self, pod: Namespace, number: int = 0) -> float:
        return self.node.call(lambda: self._delete(pod, number))

    def ask(self, command: str) -> float:
        """Seconds the first plugin takes for a call that is about no pod."""
        executable, conf = self.chain[0]
        return self.node.call(lambda: self._timed(lambda: self._run(executable, command, conf)))

    def add_all(self, pods: list[Namespace], at_once: int) -> float:
        return self._all(self._add, pods, at_once)

    def delete_all(self, pods: list[Namespace], at_once: int) -> float:
        return self._all(self._delete, pods, at_once)

    def _all(self, action, pods: list[Namespace], at_once: int) -> float:
        def run() -> float:
            # Threads begin in the namespace of the thread that starts them.
            with ThreadPoolExecutor(at_once) as pool:
                return self._timed(lambda: list(pool.map(action, pods, range(len(pods)))))

        return self.node.call(run)

    def _add(self, pod: Namespace, number: int) -> float:
        return self._timed(lambda: self._each("ADD", pod, number, self.chain))

    def _delete(self, pod: Namespace, number: int) -> float:
        return self._timed(lambda: self._each("DEL", pod, number, self.chain[::-1]))

    def _each(self, command: str, pod: Namespace, number: int, chain: Iterable[tuple[Path, dict[str, Any]]]) -> None:
        previous = None if command == "ADD" else self.results.get(pod.name)
        for executable, conf in chain:
            wanted = {"portMappings": [{"hostPort": _PORT + number, "containerPort": 80, "protocol": "tcp"}]}
            document = {**conf, **({"runtimeConfig": wanted} if conf.get("capabilities") else {})}
            if previous:
                document["prevResult"] = previous
            answer = self._run(executable, command, document, pod)
            if command == "ADD":
                self.results[pod.name] = previous = answer

    def _run(
        self, executable: Path, command: str, conf: dict[str, Any], pod: Namespace | None = None
    ) -> dict[str, Any]:
        environ = environment(command, pod.name, pod.path) if pod else {"CNI_COMMAND": command}
        environ |= {"CNI_PATH": str(REFERENCE), "PATH": os.environ["PATH"]}
        done = subprocess.run([executable], env=environ, input=json.dumps(conf).encode(), capture_output=True)
        if done.returncode:
            raise RuntimeError(f"{executable} {command}: {done.stdout.decode()}{done.stderr.decode()}")
        return json.loads(done.stdout) if done.stdout else {}

    @staticmethod
    def _timed(action) -> float:
        started = time.perf_counter()
        action()
        return time.perf_counter() - started


@contextlib.contextmanager
def place(*, masquerade: bool = False, dual: bool = False) -> Iterator[tuple[Runtime, Runtime]]:
    """podwire's runtime and the peer's, configured alike; with `masquerade` both lead hostPorts to their pods too."""
    with (
        namespaces.namespace("node") as node,
        namespaces.namespace("peer") as peer,
        tempfile.TemporaryDirectory() as name,
        agent(node, Path(name) / "cni.sock"),
    ):
        directory = Path(name)
        ours, theirs = directory / "podwire", directory / "reference"
        plugin = install.install(directory / "bin", PYTHON, directory / "cni.sock")
        ranges = [V4, V6] if dual else [V4]
        ports = {"capabilities": {"portMappings": True}} if masquerade else {}
        common = {"cniVersion": "1.0.0", "name": "bench", "isDefaultGateway": True, "hairpinMode": True}
        common |= {"ipMasq": masquerade}
        bridge = {**common, "type": "bridge", "bridge": "cni0"}
        bridge["ipam"] = {"type": "host-local", "dataDir": str(theirs), "ranges": ranges}
        own = {**common, "type": "podwire", "dataDir": str(ours), **ports}
        own["ipam"] = {"type": "podwire-ipam", "ranges": ranges}
        chain = [(REFERENCE / "bridge", bridge)]
        if masquerade:
            chain.append((REFERENCE / "portmap", {"cniVersion": "1.0.0", "name": "bench", "type": "portmap", **ports}))
        yield Runtime(node, [(plugin, own)]), Runtime(peer, chain)


@contextlib.contextmanager
def agent(node: Namespace, socket: Path) -> Iterator[subprocess.Popen]:
    """The agent's socket, served by a process of its own."""
    process = node.start(sys.executable, "-m", "tests.bench.cni_agent", str(socket))
    try:
        eventually(socket.exists)
        yield process
    finally:
        process.terminate()
        process.wait()
