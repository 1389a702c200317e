"""Nodes as namespaces on one link, each with a real podwire-node, and a real podwire-api on the link."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from kube import resources
from kube.connection import from_kubeconfig
from kube.errors import ApiError, Unreachable
from kube.http import Client
from tests import namespaces
from tests.namespaces import Namespace
from tests.waiting import eventually

SERVER = "192.0.2.254"
PORT = 6443


@dataclass
class Agent:
    """A node's files and its agent's process."""

    name: str
    namespace: Namespace
    directory: Path
    kubeconfig: Path
    process: subprocess.Popen | None = None
    flags: tuple[str, ...] = ()

    @property
    def conflist(self) -> Path:
        return self.directory / "net.d" / "10-podwire.conflist"

    @property
    def plugin(self) -> Path:
        return self.directory / "bin" / "podwire"

    @property
    def socket(self) -> Path:
        return self.directory / "cni.sock"

    @property
    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def argv(self) -> list[str]:
        flags = {
            "kubeconfig": self.kubeconfig,
            "node-name": self.name,
            "state-dir": self.directory / "state",
            "socket": self.socket,
            "cni-conf-dir": self.conflist.parent,
            "cni-bin-dir": self.plugin.parent,
        }
        return [sys.executable, "-m", "node", *(f"--{flag}={value}" for flag, value in flags.items()), *self.flags]

    def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = self.namespace.start(*self.argv(), stderr=log)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def routes(self) -> set[str]:
        """Our routes as `ip route` prints them."""
        return self._routes("-4")

    def routes6(self) -> set[str]:
        return self._routes("-6")

    def _routes(self, family: str) -> set[str]:
        lines = self.namespace.run("ip", family, "route", "show", "proto", "112").splitlines()
        return {" ".join(line.split()[:5]) for line in lines}


@dataclass
class ClusterOfAgents:
    directory: Path
    switch: Namespace
    stack: contextlib.ExitStack
    agents: dict[str, Agent] = field(default_factory=dict)
    flags: tuple[str, ...] = ()  # of the API server
    server: str = SERVER
    api: subprocess.Popen | None = None
    _client: Client | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "api" / "admin.kubeconfig"

    def start_api(self) -> None:
        listen = f"[{self.server}]:{PORT}" if ":" in self.server else f"{self.server}:{PORT}"
        argv = [sys.executable, "-m", "api", "--data-dir", str(self.directory / "api"), "--listen", listen]
        argv += self.flags
        with (self.directory / "api.log").open("ab") as log:
            self.api = self.switch.start(*argv, stdout=log, stderr=log)
        eventually(self._answers, within=60)

    def _answers(self) -> bool:
        with contextlib.suppress(ApiError, Unreachable):
            return self.kubeconfig.exists() and bool(self.ask(lambda client: client.list(resources.NODES)))
        return False

    def kill_api(self) -> None:
        self.api.kill()
        self.api.wait(60)

    def ask(self, question: Callable[[Client], Any]) -> Any:
        """Ask the API from the switch, where it listens."""
        if self._client is None:
            self._client = Client(from_kubeconfig(self.kubeconfig))
        return self.switch.call(lambda: question(self._client))

    def node(self, name: str) -> dict[str, Any] | None:
        with contextlib.suppress(ApiError):
            return msgspec.json.decode(self.ask(lambda client: client.get(resources.NODES, name)))
        return None

    def pod_cidr(self, name: str) -> str:
        return (self.node(name) or {}).get("spec", {}).get("podCIDR", "")

    def is_ready(self, name: str) -> bool:
        conditions = (self.node(name) or {}).get("status", {}).get("conditions", [])
        return {each["type"]: each["status"] for each in conditions} == {"Ready": "True", "NetworkUnavailable": "False"}

    def add(self, name: str, address: str, *flags: str) -> Agent:
        """A node on the link, its agent running."""
        namespace = self.stack.enter_context(namespaces.namespace(name))
        peer = ["peer", "name", "eth0", "netns", namespace.name]
        self.switch.run("ip", "link", "add", "name", name, "master", "link0", "up", "type", "veth", *peer)
        namespace.run("ip", "address", "add", *on_link(address), "dev", "eth0")
        namespace.run("ip", "link", "set", "eth0", "up")
        agent = Agent(name, namespace, self.directory / name, self.kubeconfig, flags=flags)
        agent.start()
        self.agents[name] = agent
        self.stack.callback(lambda: agent.process.poll() is None and agent.end(signal.SIGKILL))
        return agent

    def ready(self, name: str, address: str, *flags: str) -> Agent:
        agent = self.add(name, address, *flags)
        eventually(lambda: self.is_ready(name), within=60)
        return agent


@contextlib.contextmanager
def cluster(directory: Path, *flags: str, server: str = SERVER) -> Iterator[ClusterOfAgents]:
    with contextlib.ExitStack() as stack:
        switch = stack.enter_context(namespaces.namespace("switch"))
        switch.run("ip", "link", "add", "name", "link0", "up", "type", "bridge")
        switch.run("ip", "address", "add", *on_link(server), "dev", "link0")
        made = ClusterOfAgents(directory, switch, stack, flags=flags, server=server)
        stack.callback(lambda: made.api.kill() or made.api.wait(60))
        made.start_api()
        yield made
        if made._client:
            made._client.close()


def on_link(address: str) -> tuple[str, ...]:
    """An address with the prefix of the link, usable at once."""
    return (f"{address}/64", "nodad") if ":" in address else (f"{address}/24",)
