"""A small real API server on loopback: paged lists, watches with bookmarks, and every way to misbehave on command."""

import contextlib
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Object = dict[str, Any]


def service(name: str, **spec: object) -> Object:
    return {"metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"}, "spec": spec}


class KubeServer:
    """Services by name and the events that led to them. `answers` are given, once each, before anything else."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.objects: dict[str, Object] = {}
        self.events: list[tuple[int, bytes]] = []
        self.version = 100
        self.requests: list[tuple[str, str, dict[str, str], dict[str, str], bytes]] = []
        self.answers: list[tuple[int, bytes]] = []
        self.stream_answers: list[bytes] = []
        self.holds_headers_back = False
        self.accepted = 0
        self.peers: list[Any] = []
        self.changed = threading.Condition()
        self._tls = tls
        self._port = 0
        self._http: ThreadingHTTPServer | None = None
        self._connections: set[socket.socket] = set()
        self.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    # --- the store

    def put(self, obj: Object) -> None:
        self._commit("MODIFIED" if obj["metadata"]["name"] in self.objects else "ADDED", obj)
        self.objects[obj["metadata"]["name"]] = obj

    def remove(self, name: str) -> None:
        self._commit("DELETED", self.objects.pop(name))

    def bookmark(self) -> None:
        with self.changed:
            self.version += 1
            self.emit("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})

    def _commit(self, kind: str, obj: Object) -> None:
        with self.changed:
            self.version += 1
            obj["metadata"]["resourceVersion"] = str(self.version)
            self.emit(kind, obj)

    def emit(self, kind: str, obj: Object) -> None:
        self.emit_line(json.dumps({"type": kind, "object": obj}).encode() + b"\n")

    def emit_line(self, line: bytes) -> None:
        with self.changed:
            self.events.append((self.version, line))
            self.changed.notify_all()

    # --- the process

    def start(self) -> None:
        server = self

        class Handler(_Handler):
            owner = server

        self._http = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._http.daemon_threads = True
        self._port = self._http.server_address[1]
        if self._tls:
            self._http.socket = self._tls.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Be gone as after kill -9: no listener, every connection broken."""
        if self._http is None:
            return
        with self.changed:
            http, self._http = self._http, None
            connections = list(self._connections)
            self.changed.notify_all()
        for connection in connections:
            _break(connection)
        http.shutdown()
        http.server_close()

    def serves(self, http: socketserver.BaseServer) -> bool:
        """Whether this is the process that was started last, and lives."""
        return http is self._http

    def took(self, http: socketserver.BaseServer, connection: socket.socket) -> None:
        """Somebody connected; a process that is gone breaks the connection, however late its thread comes."""
        with self.changed:
            self.accepted += 1
            self._connections.add(connection)
            if not self.serves(http):
                _break(connection)

    def lost(self, connection: socket.socket) -> None:
        with self.changed:
            self._connections.discard(connection)

    def watches(self) -> list[dict[str, str]]:
        return [query for _, _, query, _, _ in self.requests if "watch" in query]

    def lists(self) -> list[dict[str, str]]:
        return [query for method, _, query, _, _ in self.requests if method == "GET" and "watch" not in query]


def _break(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: KubeServer

    def setup(self) -> None:
        super().setup()
        self.owner.took(self.server, self.connection)
        if isinstance(self.connection, ssl.SSLSocket):
            self.owner.peers.append(self.connection.getpeercert())

    def finish(self) -> None:
        self.owner.lost(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.owner.requests.append((self.command, url.path, query, dict(self.headers), body))
        if self.owner.answers:
            self._answer(*self.owner.answers.pop(0))
        elif "watch" in query:
            with contextlib.suppress(OSError):
                self._watch(int(query["resourceVersion"]))
        else:
            self._list(int(query.get("limit", 0)), int(query.get("continue", 0)))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        if 300 <= code < 400:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _list(self, limit: int, first: int) -> None:
        items = list(self.owner.objects.values())
        page = items[first : first + limit] if limit else items
        position = str(first + limit) if limit and first + limit < len(items) else ""
        meta = {"resourceVersion": str(self.owner.version), "continue": position}
        self._answer(200, json.dumps({"kind": "ServiceList", "metadata": meta, "items": page or None}).encode())

    def _watch(self, version: int) -> None:
        if self.owner.holds_headers_back:
            with self.owner.changed:
                while self._is_alive():
                    self.owner.changed.wait()
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.owner.stream_answers:
            self._chunk(self.owner.stream_answers.pop(0))
            self._chunk(b"")
            return
        sent = sum(1 for at, _ in self.owner.events if at <= version)
        while self._is_alive():
            with self.owner.changed:
                while self._is_alive() and len(self.owner.events) <= sent:
                    self.owner.changed.wait()
                lines = [line for _, line in self.owner.events[sent:]]
                sent = len(self.owner.events)
            for line in lines:
                self._chunk(line)

    def _is_alive(self) -> bool:
        return self.owner.serves(self.server)

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")


@contextlib.contextmanager
def kube_server(tls: ssl.SSLContext | None = None) -> Iterator[KubeServer]:
    server = KubeServer(tls)
    try:
        yield server
    finally:
        server.stop()
