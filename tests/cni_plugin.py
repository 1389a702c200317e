"""The plugin in real namespaces: a node, its pods, and calls as a runtime makes them."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cni import dispatch, install, service
from cni.host import linux_host
from ipam.leases import Leases
from tests.cni_node import environment, netconf
from tests.namespaces import Namespace

PYTHON = Path(sys.prefix) / "bin" / "python"


@dataclass
class PluginNode:
    """A namespace that is a node, with its own plugin executable, socket and lease file below `directory`."""

    namespace: Namespace
    directory: Path
    conf: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.executable = install.install(self.directory / "bin", PYTHON, self.socket_path)

    @property
    def socket_path(self) -> Path:
        return self.directory / "cni.sock"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def stdin(self, **changes: Any) -> bytes:
        return json.dumps(netconf(self.state, **{**self.conf, **changes})).encode()

    def start(self, command: str, pod: Namespace, *, netns: str | None = None, **changes: Any) -> subprocess.Popen:
        """Execute the plugin as a runtime does."""
        environ = environment(command, pod.name, pod.path if netns is None else netns)
        process = subprocess.Popen(
            self.namespace.argv(str(self.executable)),
            env={"PATH": os.environ["PATH"], **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        process.stdin.write(self.stdin(**changes))
        process.stdin.close()
        process.stdin = None
        return process

    def execute(self, command: str, pod: Namespace, **changes: Any) -> dict[str, Any]:
        return finish(self.start(command, pod, **changes))

    def call(self, command: str, pod: Namespace, *, netns: str | None = None, **changes: Any) -> dict[str, Any]:
        """The same without a process: the dispatcher in a thread inside the node."""
        environ = environment(command, pod.name, pod.path if netns is None else netns)

        def run() -> dispatch.Reply:
            host = linux_host()
            try:
                return dispatch.run(environ, self.stdin(**changes), lambda: host)
            finally:
                host.close()

        reply = self.namespace.call(run)
        return {**(json.loads(reply.stdout) if reply.stdout else {}), "exit": reply.exit_code}

    def leased(self) -> dict[str, str]:
        with Leases(self.state) as leases:
            return {lease.claim.attachment.container_id: str(lease.address) for lease in leases.of("net")}

    def states(self) -> list[str]:
        with Leases(self.state) as leases:
            return [lease.state.value for lease in leases.of("net")]

    def veths(self) -> list[str]:
        links = json.loads(self.namespace.run("ip", "-json", "link", "show", "type", "veth") or "[]")
        return [link["ifname"] for link in links if link.get("ifname", "").startswith("pw")]

    def answer(self, connection: socket.socket) -> None:
        """What the node agent does with a connection."""
        host = linux_host()
        try:
            service.answer(connection, host)
        finally:
            host.close()

    @contextmanager
    def agent(self, serve: Callable[[socket.socket], None]) -> Iterator[None]:
        """A socket that answers each connection with `serve`, in a thread inside the node."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.socket_path))
        listener.listen(128)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    serve(connection)

        thread = threading.Thread(target=lambda: self.namespace.call(accept))
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            listener.close()
            self.socket_path.unlink()


def finish(process: subprocess.Popen) -> dict[str, Any]:
    stdout, stderr = process.communicate(timeout=250)
    assert not stderr, stderr.decode()
    return {**(json.loads(stdout) if stdout else {}), "exit": process.returncode}
