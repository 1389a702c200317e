"""An API server that only serves what a proxy asks for, from bytes it made before: `python -m tests.bench.api_source`.

Lists with limit and continue, watches with chunked lines, PUT and DELETE of one object, which every watch hears at once.
It keeps no history: a watch begins with what comes after its resourceVersion, as far as this process saw it.
"""

import contextlib
import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

from tests.bench import cluster
from tests.bench.cluster import Shape

SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
NODES = "/api/v1/nodes"
NODE = "bench-node"
PORT = 6444
_NOT_FOUND = b'{"kind":"Status","status":"Failure","reason":"NotFound","code":404}'


class Collection:
    """One kind's objects as bytes, by name, and the events since the start."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self._objects = objects
        self._events: list[tuple[int, bytes]] = []
        self._changed = threading.Condition()

    def put(self, name: str, body: bytes, version: int) -> None:
        with self._changed:
            kind = b"MODIFIED" if name in self._objects else b"ADDED"
            self._objects[name] = body
            self._emit(version, b'{"type":"%s","object":%s}\n' % (kind, body))

    def delete(self, name: str, version: int) -> None:
        with self._changed:
            if body := self._objects.pop(name, None):
                self._emit(version, b'{"type":"DELETED","object":%s}\n' % body)

    def _emit(self, version: int, line: bytes) -> None:
        self._events.append((version, line))
        self._changed.notify_all()

    def page(self, limit: int, first: int, version: int) -> bytes:
        with self._changed:
            names = list(self._objects)
            chosen = names[first : first + limit] if limit else names
            items = [self._objects[name] for name in chosen]
        position = str(first + limit) if limit and first + limit < len(names) else ""
        head = f'{{"kind":"List","metadata":{{"resourceVersion":"{version}","continue":"{position}"}},"items":['
        return b"".join((head.encode(), b",".join(items), b"]}"))

    def follow(self, version: int) -> Iterator[bytes]:
        """Every event after a version, several at once if they are there already."""
        with self._changed:
            sent = sum(at <= version for at, _ in self._events)
        while True:
            with self._changed:
                while len(self._events) == sent:
                    self._changed.wait()
                lines = [line for _, line in self._events[sent:]]
                sent += len(lines)
            yield b"".join(lines)


class Source:
    """The whole API, at one version."""

    def __init__(self, shape: Shape) -> None:
        self._lock = threading.Lock()
        self._version = 1000
        numbers = range(shape.services)
        self._collections = {
            SERVICES: Collection({cluster.service_name(n): cluster.service_object(n, shape, 1000) for n in numbers}),
            SLICES: Collection(
                {
                    cluster.slice_name(n, family): cluster.slice_object(
                        n, family, 1000, cluster.endpoints(n, shape.endpoints, family)
                    )
                    for n in numbers
                    for family in shape.versions
                }
            ),
            NODES: Collection({NODE: cluster.node_object(NODE, "192.0.2.1", 1000)}),
        }

    def collection(self, path: str) -> Collection | None:
        return self._collections.get(path)

    @property
    def version(self) -> int:
        return self._version

    def write(self, path: str, method: str, body: bytes) -> bool:
        """Put or delete `…/namespaces/NAMESPACE/KIND/NAME`; the body's version becomes the next one."""
        head, _, name = path.rpartition("/")
        collection = self._collections.get(head.replace(f"/namespaces/{cluster.NAMESPACE}", ""))
        if collection is None:
            return False
        with self._lock:
            self._version += 1
            if method == "DELETE":
                collection.delete(name, self._version)
            else:
                version = b'"resourceVersion":"%d"' % self._version
                collection.put(name, body.replace(b'"resourceVersion":"0"', version, 1), self._version)
        return True


class Connection:
    """One client's connection, served until it ends."""

    def __init__(self, source: Source, opened: socket.socket) -> None:
        self._source = source
        self._socket = opened
        self._file = opened.makefile("rb")

    def serve(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._socket:
            while request := self._file.readline():
                method, target, _ = request.decode().split(" ", 2)
                self._answer(method, target, self._body())

    def _body(self) -> bytes:
        length = 0
        while (header := self._file.readline()).strip():
            name, _, value = header.decode().partition(":")
            length = int(value) if name.lower() == "content-length" else length
        return self._file.read(length)

    def _answer(self, method: str, target: str, body: bytes) -> None:
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        collection = self._source.collection(url.path)
        if method in {"PUT", "DELETE"}:
            self._send(*((200, b"{}") if self._source.write(url.path, method, body) else (404, _NOT_FOUND)))
        elif method == "POST":
            self._send(201, b"{}")
        elif collection is None:
            self._send(404, _NOT_FOUND)
        elif "watch" in query:
            self._watch(collection, int(query["resourceVersion"]))
        else:
            limit, first = int(query.get("limit", 0)), int(query.get("continue", 0))
            self._send(200, collection.page(limit, first, self._source.version))

    def _send(self, status: int, body: bytes) -> None:
        head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)

    def _watch(self, collection: Collection, version: int) -> None:
        self._socket.sendall(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for lines in collection.follow(version):
            self._socket.sendall(b"%x\r\n%s\r\n" % (len(lines), lines))


def main() -> None:
    source = Source(Shape(**json.loads(sys.argv[1])))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with socket.create_server(("127.0.0.1", PORT), backlog=64) as listener:
        print("serving", flush=True)
        while True:
            opened, _ = listener.accept()
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=Connection(source, opened).serve, daemon=True).start()


if __name__ == "__main__":
    main()
