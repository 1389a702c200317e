"""Requests and pings as a pod makes them: with sockets and programs inside its network namespace."""

import itertools
import re
import secrets
import socket
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

import msgspec

from dataplane import netns
from lab import topology
from lab.demo.findings import Answer

_LIMIT: Final = 4096
_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: podwire\r\nConnection: close\r\n\r\n"
_ROUND_TRIP: Final = re.compile(r"time=([0-9.]+) ms")

# What comes again from a port within seconds is the same flow for UDP, and stays with its endpoint: chance may choose a
# port twice. These are below the ephemeral ports of Linux, and above well-known ones.
_PORTS: Final = range(10_000, 30_000)
_turns: Final = itertools.count(secrets.randbelow(len(_PORTS)))

Endpoint = tuple[str, int]


class _Reply(msgspec.Struct, frozen=True):
    pod: str
    node: str
    client: str


_REPLY: Final = msgspec.json.Decoder(_Reply)


def ask(namespace: str, address: IPv4Address, port: int, *, udp: bool = False, seconds: float = 2.0) -> Answer:
    """Make one request of the echo program from inside a namespace, from a port of its own."""
    question = _ask_udp if udp else _ask_tcp
    with netns.open_netns(topology.path_of(namespace)) as target:
        return netns.run_in(target.fd, lambda: _answer(question, (str(address), port), seconds))


def _answer(question: Callable[[Endpoint, float], bytes], endpoint: Endpoint, seconds: float) -> Answer:
    try:
        body = question(endpoint, seconds)
        reply = _REPLY.decode(body)
    except OSError as error:
        return Answer(failure=error.strerror or str(error))
    except msgspec.MsgspecError as error:
        return Answer(failure=f"not an answer of the echo program: {error}")
    return Answer(pod=reply.pod, node=reply.node, client=reply.client)


def _ask_tcp(endpoint: Endpoint, seconds: float) -> bytes:
    with socket.create_connection(endpoint, timeout=seconds) as connection:
        connection.sendall(_REQUEST)
        received = b""
        while chunk := connection.recv(_LIMIT):
            received += chunk
    return received.partition(b"\r\n\r\n")[2]


def _ask_udp(endpoint: Endpoint, seconds: float) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(seconds)
        sender.bind(("", _PORTS[next(_turns) % len(_PORTS)]))
        sender.connect(endpoint)
        sender.send(b"who?\n")
        return sender.recv(_LIMIT)


def ping(namespace: str, address: IPv4Address) -> float | None:
    """Send one echo request from inside a namespace; return the round trip in milliseconds, None without an answer."""
    argv = ["ping", "-n", "-c", "1", "-W", "1", str(address)]
    with netns.open_netns(topology.path_of(namespace)) as target:
        done = netns.run_in(
            target.fd, lambda: subprocess.run(argv, capture_output=True, text=True, check=False, timeout=5)
        )
    found = _ROUND_TRIP.search(done.stdout)
    return float(found[1]) if done.returncode == 0 and found else None
