"""A packet as people name it: pods, Services and ports by name, or plain addresses."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from typing import Final

import msgspec

from cli.cluster_objects import ClusterObjects
from kube import objects
from proxy.here import Here
from proxy.model import Address, Network, ServiceName
from proxy.tracing.packet import ICMP, Origin, Packet

_DESTINATION: Final = re.compile(r"(?P<host>\[[^\]]+\]|[^\s\[\]]+?)(?::(?P<port>[a-zA-Z0-9-]+))?")
_PROTOCOLS: Final = frozenset({"TCP", "UDP", "SCTP", ICMP})
NODE: Final = "node"


class UnknownName(Exception):
    """An argument that names nothing: which, and what to write instead."""

    def __init__(self, argument: str, text: str, problem: str) -> None:
        super().__init__(argument, text, problem)
        self.argument = argument
        self.text = text
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.argument} {self.text!r}: {self.problem}"


class Source(msgspec.Struct, frozen=True):
    """Who sends. `node` is where, as far as the cluster says; empty for somebody outside."""

    addresses: tuple[Address, ...]
    node: str
    origin: Origin

    def seen_from(self, node: str) -> Origin:
        return self.origin if self.node == node else Origin.OUTSIDE


class Destination(msgspec.Struct, frozen=True):
    addresses: tuple[Address, ...]
    port: int
    protocol: str


class Ends(msgspec.Struct, frozen=True):
    """From where to where, in one address family."""

    source: Address
    destination: Address
    port: int
    protocol: str

    @property
    def version(self) -> int:
        return self.destination.version


def ends(sender: Source, target: Destination) -> Ends:
    """Choose a family that both have; the Service's first one, if there are two. Raises UnknownName."""
    if target.addresses[:1] and target.addresses[0].is_loopback:
        return _at_home(sender, target)
    for there in target.addresses:
        for here in sender.addresses:
            if here.version == there.version:
                return Ends(here, there, target.port, target.protocol)
    shown = ", ".join(map(str, target.addresses)) or "no address"
    raise UnknownName("DESTINATION", shown, f"is of another family than {', '.join(map(str, sender.addresses))}")


def _at_home(sender: Source, target: Destination) -> Ends:
    """Who sends to localhost sends from there."""
    (address,) = target.addresses
    if sender.origin is not Origin.NODE:
        raise UnknownName(
            "DESTINATION", str(address), "there everybody meets himself; for the node's, SOURCE is `node`"
        )
    source = ip_address("127.0.0.1") if address.version == 4 else address
    return Ends(source, address, target.port, target.protocol)


def packet(between: Ends, sender: Source, here: Here, *, interface: str = "") -> Packet:
    """The packet as it comes to the node. A pod of this node comes by the pods' interface unless said."""
    origin = sender.seen_from(here.node)
    pods = here.pod_interface.removesuffix("*") if origin is Origin.POD else ""
    return Packet(
        source=between.source,
        destination=between.destination,
        protocol=between.protocol,
        port=between.port,
        origin=origin,
        interface=interface or pods,
    )


def source(text: str, cluster: ClusterObjects, *, namespace: str, node: str) -> Source:
    """Read SOURCE: an address, `node`, or a pod. Raises UnknownName, ApiError."""
    if text == NODE:
        return Source(_own_addresses(cluster, node), node, Origin.NODE)
    with contextlib.suppress(ValueError):
        return _by_address(ip_address(text), cluster)
    where, _, name = text.rpartition("/")
    pod = cluster.pod(where or namespace, name)
    addresses = tuple(_addresses([pod.status.pod_ip, *(each.ip for each in pod.status.pod_ips)]))
    if not addresses:
        raise UnknownName("SOURCE", text, "this pod has no address yet")
    return Source(addresses, pod.spec.node_name, Origin.NODE if pod.spec.host_network else Origin.POD)


def _own_addresses(cluster: ClusterObjects, node: str) -> tuple[Address, ...]:
    addresses = tuple(_node_addresses(cluster.nodes[node])) if node in cluster.nodes else ()
    if not addresses:
        raise UnknownName(
            "SOURCE", NODE, f"Node {node!r} is not in the cluster or has no address; name one with --node"
        )
    return addresses


def _by_address(address: Address, cluster: ClusterObjects) -> Source:
    for name, node in cluster.nodes.items():
        if address in _node_addresses(node):
            return Source((address,), name, Origin.NODE)
        if any(address in network for network in _networks((node.spec.pod_cidr, *node.spec.pod_cidrs))):
            return Source((address,), name, Origin.POD)
    return Source((address,), "", Origin.OUTSIDE)


def _node_addresses(node: objects.Node) -> Iterator[Address]:
    return _addresses(entry.address for entry in node.status.addresses if entry.type.endswith("IP"))


def _addresses(texts: Iterable[str]) -> Iterator[Address]:
    for text in dict.fromkeys(texts):
        with contextlib.suppress(ValueError):
            yield ip_address(text)


def _networks(texts: Iterable[str]) -> Iterator[Network]:
    for text in texts:
        with contextlib.suppress(ValueError):
            yield ip_network(text, strict=False)


def destination(text: str, cluster: ClusterObjects, *, namespace: str) -> Destination:
    """Read DESTINATION: HOST[:PORT][/PROTOCOL], the host an address or a Service. Raises UnknownName."""
    rest, _, last = text.rpartition("/")
    protocol = last.upper() if last.upper() in _PROTOCOLS else ""
    found = _DESTINATION.fullmatch(rest if protocol else text)
    if found is None:
        raise UnknownName(
            "DESTINATION", text, "write ADDRESS:PORT or SERVICE:PORT, and /udp or /sctp after it if needed"
        )
    host, port = found["host"].strip("[]"), found["port"] or ""
    if found[0].count(":") > 1 and not found[0].startswith("["):
        host, port = found[0], ""  # an IPv6 address as it is
    with contextlib.suppress(ValueError):
        address = ip_address(host)
        return Destination((address,), _number(text, port, protocol), protocol or "TCP")
    where, _, name = host.rpartition("/")
    service = cluster.service(ServiceName(where or namespace, name))
    if service is None:
        raise UnknownName("DESTINATION", text, f"no Service {where or namespace}/{name} that podwire-proxy serves")
    number, protocol = _service_port(text, service, port, protocol)
    spec = service.spec
    return Destination(tuple(_addresses(spec.cluster_ips or (spec.cluster_ip,))), number, protocol)


def _number(text: str, port: str, protocol: str) -> int:
    if protocol == ICMP:
        return 0
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise UnknownName("DESTINATION", text, "an address needs a port from 1 to 65535 after it, or /icmp for a ping")
    return int(port)


def _service_port(text: str, service: objects.Service, port: str, protocol: str) -> tuple[int, str]:
    if protocol == ICMP:
        return 0, protocol
    ports = service.spec.ports
    for entry in ports if port or len(ports) == 1 else ():
        if port in {"", entry.name, str(entry.port)} and protocol in {"", entry.protocol}:
            return entry.port, entry.protocol
    if port.isascii() and port.isdecimal():
        return _number(text, port, protocol), protocol or "TCP"
    names = ", ".join(f"{entry.port}/{entry.protocol}{f' ({entry.name})' if entry.name else ''}" for entry in ports)
    raise UnknownName("DESTINATION", text, f"name one of its ports: {names}")
