"""The pod that says who answered: one line of JSON over HTTP and UDP on the same port.

    $ curl 10.96.12.7
    {"pod": "web-2", "namespace": "demo", "node": "node2", "client": "10.244.0.3:41874"}

It closes each connection, so each request is a connection and takes its own turn at a Service. After SIGTERM it goes
on answering for a moment, as a well-behaved server does: the node's proxies need that long to hear of it. It starts
without site packages, in about 20 ms, so nothing but the standard library's quick parts is imported.
"""

import _thread
import contextlib
import os
import signal
import socket
import sys
import time

DEFAULT_PORT = 8080
DRAIN_SECONDS = 1  # unless the variable of this name says otherwise
IDENTITY = (("pod", "POD_NAME"), ("namespace", "POD_NAMESPACE"), ("node", "POD_NODE"))
_MAPPED = "::ffff:"  # how a socket of both families spells IPv4 (RFC 4291 §2.5.5.2)
_REQUEST_LIMIT = 8192
_PATIENCE = 5.0  # seconds for a client to finish its request


def answer(client: str, port: int) -> bytes:
    """Say who answers whom. Names are DNS labels, so nothing needs escaping."""
    who = "".join(f'"{key}": "{os.environ.get(variable, "")}", ' for key, variable in IDENTITY)
    address = client.removeprefix(_MAPPED)
    address = f"[{address}]" if ":" in address else address
    return f'{{{who}"client": "{address}:{port}"}}\n'.encode()


def response(body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def read_request(connection: socket.socket) -> bool:
    """Read to the end of the header; False when the client leaves or sends nonsense without end."""
    received = b""
    while b"\r\n\r\n" not in received and b"\n\n" not in received:
        chunk = connection.recv(_REQUEST_LIMIT)
        received += chunk
        if not chunk or len(received) > _REQUEST_LIMIT:
            return False
    return True


def answer_connection(connection: socket.socket, client: str, port: int) -> None:
    with contextlib.suppress(OSError), connection:
        connection.settimeout(_PATIENCE)
        if read_request(connection):
            connection.sendall(response(answer(client, port)))


def serve_tcp(server: socket.socket) -> None:
    while True:
        # A client may be gone again before it is accepted.
        with contextlib.suppress(ConnectionAbortedError):
            connection, (client, port, *_) = server.accept()
            _thread.start_new_thread(answer_connection, (connection, client, port))


def serve_udp(server: socket.socket) -> None:
    while True:
        # An ICMP error for an earlier answer is reported by the next call.
        with contextlib.suppress(OSError):
            _, peer = server.recvfrom(_REQUEST_LIMIT)
            server.sendto(answer(*peer[:2]), peer)


def listen(port: int) -> tuple[socket.socket, socket.socket]:
    """Sockets for TCP and UDP, of both families where the machine has IPv6."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    tcp = socket.create_server(("", port), family=family, backlog=1024, dualstack_ipv6=both)
    udp = socket.socket(family, socket.SOCK_DGRAM)
    if both:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    udp.bind(("", port))
    return tcp, udp


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_PORT
    # Before it can be reached: from then on it may also be told to end. A blocked signal waits to be asked for, while a
    # handler's would be lost between the last look and the pause.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    tcp, udp = listen(port)
    _thread.start_new_thread(serve_tcp, (tcp,))
    _thread.start_new_thread(serve_udp, (udp,))
    signal.sigwait({signal.SIGTERM})
    time.sleep(float(os.environ.get("DRAIN_SECONDS", DRAIN_SECONDS)))


if __name__ == "__main__":
    main()
