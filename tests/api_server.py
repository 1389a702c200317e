"""A real podwire-api in a namespace of its own, and the real kubectl beside it."""

import base64
import contextlib
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import urllib3

from tests.namespaces import Namespace, namespace
from tests.waiting import eventually

BIN = Path(sys.executable).parent
PROGRAM = str(BIN / "podwire-api")
ADDRESS = "127.0.0.1:6443"


@dataclass
class ApiServer:
    """One server, its data directory and where it runs."""

    home: Namespace
    directory: Path
    listen: tuple[str, ...] = (ADDRESS,)
    flags: tuple[str, ...] = ()
    process: subprocess.Popen | None = None
    _pool: urllib3.PoolManager | None = field(default=None, repr=False)

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "admin.kubeconfig"

    @property
    def log(self) -> str:
        return (self.directory.parent / "api.log").read_text()

    def start(self, **options) -> None:
        """Start it and wait until it serves."""
        listens = [flag for address in self.listen for flag in ("--listen", address)]
        with open(self.directory.parent / "api.log", "ab") as log:
            argv = [PROGRAM, "--data-dir", str(self.directory), *listens, *self.flags]
            self.process = self.home.start(*argv, stderr=log, stdout=log, **options)
        eventually(self.is_ready, within=60)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return self.request("GET", "/readyz", timeout=10, retries=False).status == 200
        except (OSError, urllib3.exceptions.HTTPError, ValueError):
            self.forget_connections()
            return False

    def kill(self) -> None:
        """kill -9."""
        self.forget_connections()
        self.process.kill()
        self.process.wait()

    def stop(self) -> float:
        """SIGTERM; returns how long it took."""
        began = time.monotonic()
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0, self.log
        return time.monotonic() - began

    def forget_connections(self) -> None:
        if self._pool is not None:
            self._pool.clear()
            self._pool = None

    def kubectl(self, *argv: str, stdin: str | None = None, check: bool = True) -> str:
        done = self.kubectl_process(*argv, stdin=stdin)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(argv)}: exit {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout if check else done.stdout + done.stderr

    def kubectl_process(self, *argv: str, stdin: str | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.kubectl_argv(*argv), env=self.environment, input=stdin, capture_output=True, text=True, timeout=60
        )

    def kubectl_argv(self, *argv: str) -> list[str]:
        return self.home.argv(str(BIN / "kubectl"), *argv)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.directory.parent)}

    def get(self, *argv: str) -> dict:
        return json.loads(self.kubectl("get", *argv, "-o", "json"))

    def request(self, method: str, path: str, body: object = None, **options) -> urllib3.BaseHTTPResponse:
        """One HTTP request from inside the namespace; the pool's sockets are opened there."""
        server, context, token = self.credentials()
        if self._pool is None:
            self._pool = urllib3.PoolManager(ssl_context=context, maxsize=64, block=False)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"} | options.pop("headers", {})
        content = None if body is None else json.dumps(body).encode()
        return self.home.call(
            lambda: self._pool.request(method, f"{server}{path}", body=content, headers=headers, **options)
        )

    def credentials(self) -> tuple[str, ssl.SSLContext, str]:
        config = msgspec.yaml.decode(self.kubeconfig.read_bytes())
        cluster = config["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        return cluster["server"], ssl.create_default_context(cadata=authority), config["users"][0]["user"]["token"]


@contextlib.contextmanager
def api_server(directory: Path, **options) -> Iterator[ApiServer]:
    """A server that is up; it is gone afterwards, with everything in its namespace."""
    with namespace("api") as home:
        server = ApiServer(home=home, directory=directory / "data", **options)
        server.start()
        try:
            yield server
        finally:
            server.kill()
