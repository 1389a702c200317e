"""One node and its pods, each a namespace, with the proxy's sync driven by hand: for packets through the real table.

    client 10.244.1.2 ─┐                                 ┌─ 10.244.2.6 remote, on another node
    a 10.244.1.3       ├─ bridge 10.244.1.1 │ node │ ───┘
    b 10.244.1.4       │
    c 10.244.1.5      ─┘                               └─ 192.0.2.2 outside, 192.0.2.1 is the node

Every pod answers on 8080 and 8081, TCP and UDP, with its name and the client's address.
"""

import collections
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

import msgspec

from dataplane.conntrack import Conntrack
from dataplane.nft.linux import LinuxNft
from proxy.flows import StaleFlows
from proxy.here import Here
from proxy.planning import Planner
from proxy.sync import NODE as NODE_KEY
from proxy.sync import RESYNC, SWEEP, Syncer
from tests.namespaces import Namespace, connect, namespace
from tests.services import RULESET, World
from tests.waiting import eventually

PODS = {"client": "10.244.1.2", "a": "10.244.1.3", "b": "10.244.1.4", "c": "10.244.1.5"}
REMOTE = "10.244.2.6"
GATEWAY = "10.244.1.1"
OUTSIDE = "192.0.2.2"
NODE = "192.0.2.1"
HERE = Here(
    node="node1",
    zone="zone1",
    addresses=(ip_address(NODE),),
    nodeport_addresses=(ip_network(NODE),),
    pod_cidrs=(ip_network("10.244.1.0/24"),),
    service_cidrs=(ip_network("10.96.0.0/16"),),
)
PORTS = (8080, 8081)


class ServiceNode:
    """`world` is what the API says; `sync` makes the node follow it."""

    def __init__(self, node: Namespace, pods: dict[str, Namespace], stack: contextlib.ExitStack) -> None:
        self.node = node
        self.pods = pods
        self.world = World()
        self.here = HERE
        self._netns = os.open(node.path, os.O_RDONLY)
        stack.callback(os.close, self._netns)
        self.nft = LinuxNft(RULESET.table, netns_fd=self._netns)
        stack.callback(self.nft.close)
        self.conntrack = Conntrack(netns_fd=self._netns)
        stack.callback(self.conntrack.close)
        self.flows = StaleFlows(self.conntrack)
        self.later: list = []
        self.restart()

    def restart(self) -> None:
        """A new proxy that knows nothing but the table."""
        self.syncer = Syncer(
            self.nft,
            RULESET,
            Planner(self.world, node="node1", family="IPv4", look=lambda: self.here),
            later=lambda key, seconds: self.later.append(key),
            expect_udp=self.flows.expect,
        )
        self.sync(RESYNC)

    def sync(self, *names) -> None:
        self.syncer.sync(frozenset(names))
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
        self.here = HERE
        self.sync(*[self.world.remove(name) for name in self.world.names()])
        self.sweep()
        self.node.run("nft", "flush", "map", "ip", "podwire-proxy", "affinity")
        self.node.run("conntrack", "-F")

    def ask(self, pod: str, address: str, port: int = 80, *, timeout: float = 3.0) -> str:
        """One TCP connection; who answered."""
        return self.inside(pod, lambda: ask(address, port, timeout=timeout))

    def asks(self, pod: str, count: int, address: str, port: int = 80) -> list[str]:
        return self.inside(pod, lambda: [ask(address, port) for _ in range(count)])

    def udp_socket(self, pod: str) -> socket.socket:
        def open_socket() -> socket.socket:
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            opened.settimeout(0.5)
            return opened

        return self.inside(pod, open_socket)

    def inside(self, pod: str, function: Callable):
        return (self.node if pod == "node" else self.pods[pod]).call(function)


def ask(address: str, port: int, *, timeout: float = 3.0) -> str:
    with socket.create_connection((address, port), timeout=timeout) as connection:
        return connection.recv(100).decode()


def ask_udp(opened: socket.socket, address: str, port: int) -> str:
    """Send until somebody answers: the first packet after a change may still be under way to who is gone."""

    def answer() -> str:
        with contextlib.suppress(TimeoutError):
            opened.sendto(b"?", (address, port))
            return opened.recv(100).decode()
        return ""

    return eventually(answer, within=5)


def seconds_until(error: type[OSError], function: Callable[[], object]) -> float:
    """How long it takes until this error comes; anything else fails the test."""
    started = time.monotonic()
    try:
        found = function()
    except error:
        return time.monotonic() - started
    raise AssertionError(f"{error.__name__} was expected, not the answer {found!r}")


@contextlib.contextmanager
def service_node() -> Iterator[ServiceNode]:
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(namespace("node"))
        pods = {name: stack.enter_context(namespace(name)) for name in (*PODS, "remote", "outside")}
        _wire(node, pods)
        stop = threading.Event()
        servers = [server for name in ("a", "b", "c", "remote") for server in _serve(pods[name], name, stop)]
        yield ServiceNode(node, pods, stack)
        stop.set()
        for server in servers:
            server.join()


def _wire(node: Namespace, pods: dict[str, Namespace]) -> None:
    bridge = "podwire0"
    node.run("ip", "link", "add", bridge, "type", "bridge", "nf_call_iptables", "1")
    node.run("ip", "address", "add", f"{GATEWAY}/24", "dev", bridge)
    node.run("ip", "link", "set", bridge, "up")
    for name, address in PODS.items():
        pod = pods[name]
        device = f"pw-{name}"
        node.run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", pod.name)
        node.run("ip", "link", "set", device, "master", bridge, "up")
        node.run("ip", "link", "set", device, "type", "bridge_slave", "hairpin", "on")
        pod.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        pod.run("ip", "link", "set", "eth0", "up")
        pod.run("ip", "route", "add", "default", "via", GATEWAY)
    connect(node, "10.244.2.1/24", pods["remote"], f"{REMOTE}/24")
    pods["remote"].run("ip", "route", "add", "default", "via", "10.244.2.1")
    connect(node, f"{NODE}/24", pods["outside"], f"{OUTSIDE}/24", device="uplink")
    pods["outside"].run("ip", "route", "add", "default", "via", NODE)
    # Where packets to an unserved cluster IP would go.
    node.run("ip", "route", "add", "default", "via", REMOTE)
    node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")


def _serve(pod: Namespace, name: str, stop: threading.Event) -> list[threading.Thread]:
    servers = []
    for port in PORTS:
        listener, datagrams = pod.call(lambda port=port: _open(port))
        servers.append(threading.Thread(target=_answer_tcp, args=(listener, name, stop), daemon=True))
        servers.append(threading.Thread(target=_answer_udp, args=(datagrams, name, stop), daemon=True))
    for server in servers:
        server.start()
    return servers


def _open(port: int) -> tuple[socket.socket, socket.socket]:
    listener = socket.create_server(("0.0.0.0", port), backlog=1000)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("0.0.0.0", port))
    for opened in (listener, datagrams):
        opened.settimeout(0.2)
    return listener, datagrams


def _answer_tcp(listener: socket.socket, name: str, stop: threading.Event) -> None:
    # Connections stay open for a while, so that a test can go on with one.
    kept: collections.deque[socket.socket] = collections.deque()
    with listener:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, peer = listener.accept()
                kept.append(connection)
                connection.sendall(f"{name} {peer[0]}".encode())
            if len(kept) > 20:
                kept.popleft().close()
    for connection in kept:
        connection.close()


def _answer_udp(datagrams: socket.socket, name: str, stop: threading.Event) -> None:
    with datagrams:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                _, peer = datagrams.recvfrom(100)
                datagrams.sendto(f"{name} {peer[0]}".encode(), peer)
