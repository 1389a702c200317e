"""One node and its pods, each a namespace, with the proxy's sync driven by hand: for packets through the real table.

    client 10.244.1.2 ─┐                                 ┌─ 10.244.2.6 remote, on another node
    a 10.244.1.3       ├─ bridge 10.244.1.1 │ node │ ───┘
    b 10.244.1.4       │
    c 10.244.1.5      ─┘                               └─ 192.0.2.2 outside, 192.0.2.1 is the node

Every pod answers on 8080 and 8081, TCP and UDP, with its name and the client's address, and over UDP with what the question
says after `?`. The same with IPv6 addresses is IPV6 of tests/address_plan.py.
"""

import collections
import contextlib
import itertools
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Self

import msgspec

from dataplane.conntrack import Conntrack
from dataplane.nft.linux import LinuxNft
from dataplane.tcp_probe import TcpProbe
from proxy.flows import Flows
from proxy.planning import Planner
from proxy.resets import Resets
from proxy.sync import NO_SERVICES, RESYNC, SWEEP, Syncer
from proxy.sync import NODE as NODE_KEY
from tests.address_plan import IPV4, AddressPlan
from tests.namespaces import Namespace, namespace
from tests.services import World
from tests.waiting import PATIENCE, eventually

PODS, REMOTE, GATEWAY, OUTSIDE, NODE, HERE = (
    IPV4.pods,
    IPV4.remote,
    IPV4.gateway,
    IPV4.outside,
    IPV4.node,
    IPV4.here,
)
PORTS = (8080, 8081)
BRIDGE, UPLINK = "podwire0", "uplink"
MAPPED = "::ffff:"  # how an IPv6 socket names an IPv4 client

# Who is to be answered waits long: that costs nothing. Who is to be ignored waits for what a quiet machine takes a
# hundred times over; on a busy one the silence may be taken for granted too early, but a good answer never for silence.
PATIENT = 30.0 * PATIENCE
SILENCE = 0.4
_AGAIN = 0.5  # until a datagram that nobody answered is sent once more
_QUESTIONS = itertools.count(1)
_RESET = struct.pack("ii", 1, 0)  # struct linger: close() resets
_TCPI_TOTAL_RETRANS = 100  # its place in struct tcp_info, include/uapi/linux/tcp.h


class ServiceNode:
    """`world` is what the API says; `sync` makes the node follow it."""

    def __init__(
        self,
        node: Namespace,
        pods: dict[str, Namespace],
        servers: list["Server"],
        stack: contextlib.ExitStack,
        plan: AddressPlan,
    ) -> None:
        self.plan = plan
        self._servers = servers
        self.node = node
        self.pods = pods
        self.world = World()
        self.here = plan.here
        self._netns = os.open(node.path, os.O_RDONLY)
        stack.callback(os.close, self._netns)
        self.nft = LinuxNft(plan.ruleset.table, netns_fd=self._netns)
        stack.callback(self.nft.close)
        self.conntrack = Conntrack(netns_fd=self._netns)
        stack.callback(self.conntrack.close)
        self.probe = TcpProbe(netns_fd=self._netns)
        stack.callback(self.probe.close)
        self.later: list = []
        self.restart()

    def restart(self) -> None:
        """A new proxy that knows nothing but the table."""
        self.syncer = Syncer(
            self.nft,
            self.plan.ruleset,
            Planner(self.world, node="node1", family=self.plan.family, look=lambda: self.here),
            later=lambda key, seconds: self.later.append(key),
        )
        self.flows = Flows(
            self.world,
            self.conntrack,
            Resets(self.conntrack, self.probe, self.nft),
            family=self.plan.family,
            addresses=lambda: self.here.addresses,
        )
        self.sync(RESYNC)

    def sync(self, *names) -> None:
        self.syncer.sync(frozenset(names))
        self.flows.changed(name for name in names if name not in NO_SERVICES)
        if RESYNC in names:
            self.flows.everything_changed()
        self.flows.run_due()

    def look(self, **changed: object) -> None:
        """The node is another from now on."""
        self.here = msgspec.structs.replace(self.here, **changed)
        self.sync(NODE_KEY)

    def sweep(self) -> None:
        while self.later:
            self.later.clear()
            self.sync(SWEEP)

    def put(self, *given) -> None:
        self.sync(self.world.put(*given))

    def clear(self) -> None:
        """Forget all Services, connections and clients, and what was said of the node."""
        self.here = self.plan.here
        self.sync(*[self.world.remove(name) for name in self.world.names()])
        self.sweep()
        self.node.run("nft", f"flush map {self.plan.table} affinity")
        # Before conntrack forgets them: a masqueraded client that is given the port of one by chance would have to begin
        # twice, and take two turns.
        for server in self._servers:
            server.hang_up()
        self.node.run("conntrack", "-F")

    def ask(self, pod: str, address: str, port: int = 80, *, timeout: float = PATIENT) -> str:
        """One TCP connection; who answered."""
        return self.inside(pod, lambda: ask(address, port, timeout=timeout))

    def asks(self, pod: str, count: int, address: str, port: int = 80) -> list[str]:
        return self.inside(pod, lambda: [ask(address, port) for _ in range(count)])

    def udp_socket(self, pod: str) -> socket.socket:
        def open_socket() -> socket.socket:
            opened = socket.socket(_socket_family(self.plan), socket.SOCK_DGRAM)
            opened.settimeout(PATIENT)
            return opened

        return self.inside(pod, open_socket)

    def is_refused_at_once(self, pod: str, address: str, port: int = 80) -> bool:
        """Whether the first packet of a connection is refused. Any other outcome fails the test."""
        return self.inside(pod, lambda: packets_until_refused(address, port)) == 1

    def is_ignored(self, pod: str, address: str, port: int = 80) -> bool:
        """Whether nobody answers, not even with a refusal."""
        try:
            self.ask(pod, address, port, timeout=SILENCE)
        except TimeoutError:
            return True
        return False

    def inside(self, pod: str, function: Callable):
        return (self.node if pod == "node" else self.pods[pod]).call(function)


def ask(address: str, port: int, *, timeout: float = PATIENT) -> str:
    with socket.create_connection((address, port), timeout=timeout) as connection:
        return connection.recv(100).decode()


def ask_udp(opened: socket.socket, address: str, port: int) -> str:
    """Send until somebody answers: the first packet after a change may still be under way to who is gone."""
    question = f" {next(_QUESTIONS)}"
    patience = opened.gettimeout()
    opened.settimeout(_AGAIN)

    def answer() -> str:
        with contextlib.suppress(TimeoutError):
            opened.sendto(f"?{question}".encode(), (address, port))
            # What is late was asked before: the answer to that says nothing of now.
            while not (found := opened.recv(100).decode()).endswith(question):
                pass
            return found.removesuffix(question)
        return ""

    try:
        return eventually(answer)
    finally:
        opened.settimeout(patience)


def packets_until_refused(address: str, port: int) -> int:
    """How many packets a client sends until it is refused: the kernel repeats the first one after a second."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
        client.settimeout(PATIENT)
        try:
            client.connect((address, port))
        except ConnectionRefusedError:
            told = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCPI_TOTAL_RETRANS + 4)
            return 1 + struct.unpack_from("I", told, _TCPI_TOTAL_RETRANS)[0]
    raise AssertionError(f"{address} port {port} refused nobody")


@contextlib.contextmanager
def service_node(plan: AddressPlan = IPV4, *others: AddressPlan) -> Iterator[ServiceNode]:
    """Wired for all plans; what is driven by hand is the table of the first."""
    plans = (plan, *others)
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(namespace("node"))
        pods = {name: stack.enter_context(namespace(name)) for name in (*plan.pods, "remote", "outside")}
        _wire(node, pods)
        for one in plans:
            _give_addresses(node, pods, one)
        servers = [stack.enter_context(Server(pods[name], name, plans)) for name in ("a", "b", "c", "remote")]
        yield ServiceNode(node, pods, servers, stack, plan)


def _wire(node: Namespace, pods: dict[str, Namespace]) -> None:
    for one in (node, *pods.values()):
        # Nobody else has these addresses, and nobody waits to find out.
        one.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")
    node.run("ip", "link", "add", BRIDGE, "type", "bridge", "nf_call_iptables", "1", "nf_call_ip6tables", "1")
    node.run("ip", "link", "set", BRIDGE, "up")
    for name in IPV4.pods:
        device = f"pw-{name}"
        node.run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", pods[name].name)
        node.run("ip", "link", "set", device, "master", BRIDGE, "up")
        node.run("ip", "link", "set", device, "type", "bridge_slave", "hairpin", "on")
    for name, device in (("remote", "eth0"), ("outside", UPLINK)):
        node.run("ip", "link", "add", device, "type", "veth", "peer", "name", device, "netns", pods[name].name)
        node.run("ip", "link", "set", device, "up")
    for name, pod in pods.items():
        pod.run("ip", "link", "set", _device(name), "up")
    node.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


def _give_addresses(node: Namespace, pods: dict[str, Namespace], plan: AddressPlan) -> None:
    for device, address in ((BRIDGE, plan.gateway), ("eth0", plan.remote_gateway), (UPLINK, plan.node)):
        node.run("ip", "address", "add", plan.cidr(address), "dev", device)
    for name, address in {**plan.pods, "remote": plan.remote, "outside": plan.outside}.items():
        gateway = {"remote": plan.remote_gateway, "outside": plan.node}.get(name, plan.gateway)
        pods[name].run("ip", "address", "add", plan.cidr(address), "dev", _device(name))
        pods[name].run("ip", "route", "add", "default", "via", gateway)
    # Where packets to an unserved cluster IP would go.
    node.run("ip", "route", "add", "default", "via", plan.remote)


def _device(pod: str) -> str:
    return UPLINK if pod == "outside" else "eth0"


class Server:
    """Answers at the ports of a pod, with its name and who asked."""

    def __init__(self, pod: Namespace, name: str, plans: tuple[AddressPlan, ...]) -> None:
        self._name = name
        self._stop = threading.Event()
        # Connections stay open for a while, so that a test can go on with one.
        self._kept: collections.deque[socket.socket] = collections.deque()
        self._threads = []
        for port in PORTS:
            listener, datagrams = pod.call(lambda port=port: _open(plans, port))
            self._threads.append(threading.Thread(target=self._answer_tcp, args=(listener,), daemon=True))
            self._threads.append(threading.Thread(target=self._answer_udp, args=(datagrams,), daemon=True))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.hang_up()

    def hang_up(self) -> None:
        """End all connections, leaving nothing of them in the kernel."""
        while self._kept:
            connection = self._kept.pop()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.close()

    def _answer_tcp(self, listener: socket.socket) -> None:
        with listener:
            while not self._stop.is_set():
                # Nobody came for a while, or who came has gone again.
                with contextlib.suppress(OSError):
                    connection, peer = listener.accept()
                    self._kept.append(connection)
                    connection.sendall(f"{self._name} {peer[0].removeprefix(MAPPED)}".encode())
                if len(self._kept) > 20:
                    self._kept.popleft().close()

    def _answer_udp(self, datagrams: socket.socket) -> None:
        with datagrams:
            while not self._stop.is_set():
                with contextlib.suppress(OSError):
                    question, peer = datagrams.recvfrom(100)
                    answer = f"{self._name} {peer[0].removeprefix(MAPPED)}".encode() + question.removeprefix(b"?")
                    datagrams.sendto(answer, peer)


def _open(plans: tuple[AddressPlan, ...], port: int) -> tuple[socket.socket, socket.socket]:
    plan = plans[-1]
    family, both = _socket_family(plan), len(plans) > 1
    listener = socket.create_server((plan.everywhere, port), family=family, backlog=1000, dualstack_ipv6=both)
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    if both:
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    datagrams.bind((plan.everywhere, port))
    for opened in (listener, datagrams):
        opened.settimeout(0.2)
    return listener, datagrams


def _socket_family(plan: AddressPlan) -> socket.AddressFamily:
    return socket.AF_INET if plan.family == "IPv4" else socket.AF_INET6
