"""Connections to Services that a test holds by both ends, in either address family.

The node and its pods are those of tests/service_node.py, driven by the fixture `node` of the test; endpoints answer on 9090
and nothing is sent unless a test does.
"""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from tests.service_node import PATIENT, ServiceNode
from tests.waiting import eventually

_A_MOMENT = 0.1


@dataclass
class Connection:
    client: socket.socket
    server: socket.socket

    def works(self) -> bool:
        for sender, receiver in ((self.client, self.server), (self.server, self.client)):
            sender.sendall(b"hello")
            if receiver.recv(100) != b"hello":
                return False
        return True


@pytest.fixture
def connect(node: ServiceNode) -> Iterator:
    """Connects a client with the pod that will answer it, through the Service that is at cluster IP 10 or `to`."""
    plan = node.plan
    usual = plan.service_ip(10), 80
    family = socket.AF_INET if plan.family == "IPv4" else socket.AF_INET6
    with contextlib.ExitStack() as opened:

        def made(client: str, server: str = "a", to: tuple[str, int] = usual) -> Connection:
            listener = opened.enter_context(
                node.inside(server, lambda: socket.create_server((plan.everywhere, 9090), family=family))
            )
            listener.settimeout(PATIENT)
            near = opened.enter_context(node.inside(client, lambda: socket.create_connection(to, timeout=PATIENT)))
            far, _ = listener.accept()
            opened.enter_context(far)
            far.settimeout(PATIENT)
            return Connection(near, far)

        yield made


def is_reset(node: ServiceNode, end: socket.socket) -> bool:
    """Wait until this end is reset, while the proxy goes on with what it began. A clean end fails the test."""
    end.settimeout(_A_MOMENT)

    def has_ended() -> bool:
        node.flows.run_due()
        try:
            end.recv(100)
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        raise AssertionError("the connection was closed, not reset")

    return eventually(has_ended)


def send(node: ServiceNode, pod: str, packet: Packet) -> None:
    """Send a packet from a pod as it is."""
    family = socket.AF_INET6 if packet.version == 6 else socket.AF_INET

    def write() -> None:
        raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with raw, contextlib.suppress(PermissionError):  # what is dropped on its way out
            raw.sendto(bytes(packet), (packet.dst, 0))

    node.inside(pod, write)


def stray(end: socket.socket, source: tuple, destination: tuple) -> Packet:
    """A segment far beyond what the other end of a connection takes; a reset in answer to it would be believed."""
    expected, sent = _numbers(end)
    segment = TCP(sport=source[1], dport=destination[1], seq=(sent + 0x1000_0000) % 2**32, ack=expected, flags="A")
    header = IPv6 if ":" in source[0] else IP
    return header(src=source[0], dst=destination[0]) / segment / b"stray"


def _numbers(end: socket.socket) -> tuple[int, int]:
    """The sequence numbers of the next byte an end expects and of the next it sends."""
    repair, queue, sequence = 19, 20, 21  # TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ of include/uapi/linux/tcp.h
    found = []
    end.setsockopt(socket.IPPROTO_TCP, repair, 1)
    for which in (1, 2):  # TCP_RECV_QUEUE, TCP_SEND_QUEUE
        end.setsockopt(socket.IPPROTO_TCP, queue, which)
        found.append(end.getsockopt(socket.IPPROTO_TCP, sequence))
    end.setsockopt(socket.IPPROTO_TCP, repair, -1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return found[0] % 2**32, found[1] % 2**32
