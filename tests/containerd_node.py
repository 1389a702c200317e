"""A node with containerd and its CRI in a machine of its own: network, mounts and processes are gone with it."""

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cni import leftovers
from cni.host import linux_host
from lab import containerd
from lab.images import own
from pods.cri.client import CriClient, CriError
from tests import private_machine
from tests.cni_plugin import PluginNode
from tests.private_machine import Machine
from tests.waiting import eventually


@dataclass
class ContainerdNode:
    plugin: PluginNode
    machine: Machine
    directory: Path
    daemons: list[subprocess.Popen] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"unix://{self.directory}/ctrd.sock"

    def ctr(self, *argv: str) -> str:
        return self.machine.run("ctr", "--address", f"{self.directory}/ctrd.sock", "--namespace", "k8s.io", *argv)

    def collect(self) -> None:
        """What the node agent does by itself: take back what killed calls of the plugin left, which containerd forgets."""

        def sweep() -> None:
            host = linux_host()
            try:
                leftovers.sweep("net", self.plugin.state, host)
            finally:
                host.close()

        self.plugin.namespace.call(sweep)

    def left(self) -> dict[str, object]:
        """What there is of containers in containerd and in the kernel.

        Not its shims: one that starts while its client is killed is left behind by containerd itself, without a task.
        """
        return {
            "containers": self.ctr("containers", "list", "--quiet").split(),
            "tasks": self.ctr("tasks", "list", "--quiet").split(),
            "mounts": [line for line in self.machine.run("cat", "/proc/mounts").splitlines() if "k8s.io" in line],
            "namespaces": self.machine.run("sh", "-c", "ls /run/netns 2>/dev/null || true").split(),
            "leases": self.plugin.leased(),
            "veths": self.plugin.veths(),
        }


NOTHING = {"containers": [], "tasks": [], "mounts": [], "namespaces": [], "leases": {}, "veths": []}


@contextlib.contextmanager
def containerd_node(plugin: PluginNode, directory: Path, images: Path) -> Iterator[ContainerdNode]:
    """containerd at work, with the plugin's configuration and the lab's images, and the plugin's agent."""

    def answer(connection: socket.socket) -> None:
        # Whoever is killed in the middle of a call takes its plugin with it.
        with contextlib.suppress(OSError):
            plugin.answer(connection)

    with plugin.agent(answer), private_machine.machine(plugin.namespace, directory) as machine:
        node = ContainerdNode(plugin, machine, directory)
        # containerd brings up lo by a plugin of that name.
        (plugin.executable.parent / "loopback").symlink_to("/usr/lib/cni/loopback")
        folder = directory / "net.d"
        folder.mkdir()
        conf = json.loads(plugin.stdin())
        kept = {key: value for key, value in conf.items() if key not in {"name", "cniVersion"}}
        conflist = {"cniVersion": "1.0.0", "name": conf["name"], "plugins": [kept]}
        (folder / "10-podwire.conflist").write_text(json.dumps(conflist))
        config = containerd.config(
            root=directory / "root",
            socket=directory / "ctrd.sock",
            bin_dir=plugin.executable.parent,
            conf_dir=folder,
        )
        (directory / "config.toml").write_text(config)
        start(node)
        node.ctr("images", "import", str(images))
        yield node


def start(node: ContainerdNode) -> None:
    """Start containerd; return when its CRI and its network answer."""
    config = str(node.directory / "config.toml")
    log = node.directory / "containerd.log"
    node.daemons.append(node.machine.start("containerd", "--config", config, log=log))

    def is_ready():
        try:
            return all(condition.status for condition in client.conditions().values())
        except CriError:
            return False

    with contextlib.closing(CriClient(node.endpoint)) as client:
        eventually(is_ready, within=60)


def write_images(path: Path) -> Path:
    own.write(path)
    return path
