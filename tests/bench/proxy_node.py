"""A node in a namespace for measuring: an API source and podwire-proxy, each a process, and endpoints that answer.

Every endpoint address is local to the namespace, so a connection to a Service really arrives, and its answer is the
address it arrived at. What happens inside the proxy is told by `marked_proxy`; everything else is seen from outside.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests import namespaces
from tests.bench import api_source, cluster
from tests.bench.cluster import EndpointAddress, Shape
from tests.namespaces import Namespace

_KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{{name: bench, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: bench, user: {{}}}}]
contexts: [{{name: bench, context: {{cluster: bench, user: bench}}}}]
current-context: bench
"""
_TICKS = os.sysconf("SC_CLK_TCK")


class Mark(NamedTuple):
    """What happened in the proxy, and when on the monotonic clock, in seconds."""

    at: float
    what: str
    family: str


class Usage(NamedTuple):
    """A process's seconds of CPU so far, and its memory in MB: now, and the most it ever was."""

    cpu: float
    rss: float
    peak: float


class ProxyNode:
    """What is measured is done through this."""

    def __init__(self, place: Namespace, directory: Path, shape: Shape) -> None:
        self.place = place
        self.shape = shape
        self.process: subprocess.Popen[bytes] | None = None
        self._marks = directory / "marks"
        self._log = directory / "proxy.log"
        self._kubeconfig = directory / "kubeconfig"
        self._kubeconfig.write_text(_KUBECONFIG.format(port=api_source.PORT))
        self._api: http.client.HTTPConnection | None = None

    # --- the proxy

    def start(self) -> float:
        """Start the proxy; returns when, on the monotonic clock."""
        self._marks.unlink(missing_ok=True)
        flags = [f"--kubeconfig={self._kubeconfig}", f"--hostname-override={api_source.NODE}"]
        began = time.monotonic()
        with self._log.open("ab") as log:
            argv = (sys.executable, "-m", "tests.bench.marked_proxy", str(self._marks), *flags)
            self.process = self.place.start(*argv, stderr=log)
        return began

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def marks(self) -> list[Mark]:
        if not self._marks.exists():
            return []
        lines = (line.split(" ") for line in self._marks.read_text().splitlines())
        return [Mark(int(at) / 1e9, what, family) for at, what, family in lines]

    def await_round(self, *, after: float = 0.0, within: float = 300.0) -> float:
        """When the first round of each family had ended that began after this moment."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            ends = [_round_end(self.marks(), family, after) for family in self._families]
            if all(ends):
                return max(ends)
            if self.process and self.process.poll() is not None:
                raise RuntimeError(f"the proxy ended: {self._log.read_text()[-2000:]}")
            time.sleep(0.02)
        raise TimeoutError(f"no round within {within} s: {self._log.read_text()[-2000:]}")

    def await_quiet(self, *, after: float, quiet: float = 1.0, within: float = 60.0) -> float:
        """When the last transaction was acknowledged, once there has been none for a second."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            last = max((mark.at for mark in self.marks() if mark.what == "commit"), default=after)
            if time.monotonic() - max(last, after) > quiet:
                return last
            time.sleep(0.1)
        raise TimeoutError(f"the proxy still writes {within} s after the last change")

    @property
    def _families(self) -> tuple[str, ...]:
        return tuple("ip" if version == 4 else "ip6" for version in self.shape.versions)

    def usage(self) -> Usage:
        if self.process is None:
            raise RuntimeError("no proxy runs")
        process = Path(f"/proc/{self.process.pid}")
        ticks = process.joinpath("stat").read_text().rsplit(")", 1)[1].split()
        status = dict(line.split(":", 1) for line in process.joinpath("status").read_text().splitlines())
        rss, peak = (int(status[field].split()[0]) / 1024 for field in ("VmRSS", "VmHWM"))
        return Usage((int(ticks[11]) + int(ticks[12])) / _TICKS, rss, peak)

    # --- the API

    def write_endpoints(
        self, service: int, addresses: Sequence[EndpointAddress], *, version: int = 4, part: int = 0
    ) -> None:
        """Change an EndpointSlice of a Service; returns when the API has it."""
        collection = api_source.SLICES.replace("/endpointslices", f"/namespaces/{cluster.NAMESPACE}/endpointslices")
        path = f"{collection}/{cluster.slice_name(service, version, part)}"
        self.request("PUT", path, cluster.slice_object(service, version, 0, addresses, part))

    def request(self, method: str, path: str, body: bytes = b"") -> None:
        if self._api is None:
            self._api = self.place.call(_open_api)
        self._api.request(method, path, body)
        answer = self._api.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status}")

    # --- clients

    def ask(self, address: str, port: int = 80, *, timeout: float = 0.05) -> str:
        """Connect once; the endpoint's address, or nothing."""
        with contextlib.suppress(OSError), self._client(timeout) as client:
            client.connect((address, port))
            return client.recv(64).decode()
        return ""

    def _client(self, timeout: float) -> socket.socket:
        opened = self.place.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        opened.settimeout(timeout)
        return opened


def _round_end(marks: Sequence[Mark], family: str, after: float) -> float:
    """When this family's first round ended that began later than that; 0 if none has."""
    began = False
    for mark in marks:
        if mark.family == family:
            began |= mark.what == "begin" and mark.at > after
            if began and mark.what == "round":
                return mark.at
    return 0.0


@contextlib.contextmanager
def proxy_node(shape: Shape, *, answers: bool = True) -> Iterator[ProxyNode]:
    """A node with its API source, and endpoints that answer; the proxy is not started yet."""
    with namespaces.namespace("bench") as place, tempfile.TemporaryDirectory() as directory:
        route(place)
        argv = (sys.executable, "-m", "tests.bench.api_source", json.dumps(shape._asdict()))
        source = place.start(*argv, stdout=subprocess.PIPE)
        stop = threading.Event()
        server = threading.Thread(target=_answer, args=(place, stop), daemon=True)
        try:
            if source.stdout is None or not source.stdout.readline():
                raise RuntimeError("the API source did not start")
            if answers:
                server.start()
            node = ProxyNode(place, Path(directory), shape)
            yield node
            node.stop()
        finally:
            stop.set()
            source.kill()
            source.wait()


def route(place: Namespace) -> None:
    """Endpoints are here; cluster IPs lead away from here, as they do on a node without rules."""
    place.run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "far")
    place.run("ip", "link", "set", "far", "up")
    place.run("ip", "address", "add", "192.0.2.1/24", "dev", "uplink")
    place.run("ip", "link", "set", "uplink", "up")
    place.run("ip", "route", "add", "default", "dev", "uplink")
    place.run("ip", "route", "add", "local", "10.128.0.0/9", "dev", "lo")


def listen() -> socket.socket:
    """A server for every endpoint of the namespace of the thread that calls."""
    return socket.create_server(("0.0.0.0", 8080), backlog=4096)


def _answer(place: Namespace, stop: threading.Event) -> None:
    listener = place.call(listen)
    listener.settimeout(0.2)
    with listener:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                accepted, _ = listener.accept()
                with accepted:
                    accepted.send(accepted.getsockname()[0].encode())


def _open_api() -> http.client.HTTPConnection:
    opened = http.client.HTTPConnection("127.0.0.1", api_source.PORT)
    opened.connect()
    opened.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened
