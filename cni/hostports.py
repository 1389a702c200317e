"""hostPorts as values: what a runtime asks for, as which elements of the table it is kept, and who is in whose way.

    host-ports      protocol . node address . port  →  pod . port      for mappings with a hostIP
    host-ports-any  protocol . port                 →  pod . port      for the others
    hairpin         pod . pod                                          a pod that meets itself must see another client

The maps are the only record. An element's comment begins with the host veth it belongs to, which can be recomputed from
the attachment, so that a DEL finds it without memory; then network and owner, for the one who wants the same port.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from cni import wire_types
from cni.spec import CniError, Code, invalid
from dataplane.nft import objects, values
from dataplane.nft.objects import Element

SPECIFIC, ANY, HAIRPIN = "host-ports", "host-ports-any", "hairpin"
SETS = (SPECIFIC, ANY, HAIRPIN)

_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_NAMES = {number: name for name, number in _PROTOCOLS.items()}
UDP = _PROTOCOLS["udp"]

Held = Mapping[str, Sequence[Element]]
"""The elements of each of the sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    protocol: int
    port: int  # the node's
    address: IPv4Address | None  # the node's; None: every one of them
    pod_port: int

    def __str__(self) -> str:
        return f"{self.address or '*'}:{self.port}/{_NAMES[self.protocol]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """The ports of one attachment."""

    veth: str
    network: str
    owner: str
    pod: IPv4Address
    mappings: tuple[PortMapping, ...]

    @property
    def comment(self) -> str:
        return objects.fit_comment(f"{self.veth} {self.network} {self.owner}")

    def elements(self) -> Held:
        given: dict[str, list[Element]] = {name: [] for name in SETS}
        for mapping in self.mappings:
            target = values.concat(self.pod.packed, values.port(mapping.pod_port))
            given[ANY if mapping.address is None else SPECIFIC].append(
                Element(key=_key(mapping), value=target, comment=self.comment)
            )
        if self.mappings:
            given[HAIRPIN].append(Element(key=values.concat(self.pod.packed, self.pod.packed), comment=self.comment))
        return given


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Whose an element is."""

    veth: str
    network: str
    owner: str


class PortTaken(Exception):
    """A wanted port leads to another pod."""

    def __init__(self, mapping: PortMapping, origin: Origin) -> None:
        super().__init__(mapping, origin)
        self.mapping, self.origin = mapping, origin

    def __str__(self) -> str:
        return f"hostPort {self.mapping} is taken by {self.origin.owner} on network {self.origin.network}"


def parse_mappings(wire: Sequence[wire_types.PortMapping]) -> tuple[PortMapping, ...]:
    """Read runtimeConfig.portMappings. Raises CniError 2 or 7."""
    found: dict[bytes, PortMapping] = {}
    for index, one in enumerate(wire):
        mapping = _mapping(f"runtimeConfig.portMappings[{index}]", one)
        if mapping and found.setdefault(_key(mapping), mapping) != mapping:
            raise invalid(f"runtimeConfig.portMappings[{index}].hostPort", one.host_port, "mapped twice for this pod")
    return tuple(found.values())


def _mapping(field: str, wire: wire_types.PortMapping) -> PortMapping | None:
    if not wire.host_port:
        return None  # a container's port that is not asked for on the node
    protocol = _PROTOCOLS.get(wire.protocol.lower())
    if protocol is None:
        raise invalid(f"{field}.protocol", wire.protocol, f"write one of {', '.join(_PROTOCOLS)}")
    for name, port in (("hostPort", wire.host_port), ("containerPort", wire.container_port)):
        if not 0 < port <= values.PORT_MAX:
            raise invalid(f"{field}.{name}", port, f"must be 1 to {values.PORT_MAX}")
    address = _host_address(f"{field}.hostIP", wire.host_ip)
    if address is not None and address.version == 6:
        return None  # of the other family: pods have IPv4 addresses
    is_any = address is None or address.is_unspecified
    own = None if is_any else IPv4Address(str(address))
    return PortMapping(protocol=protocol, port=wire.host_port, address=own, pod_port=wire.container_port)


def _host_address(field: str, text: str) -> IPv4Address | IPv6Address | None:
    if not text:
        return None
    try:
        address = ip_address(text)
    except ValueError as error:
        raise invalid(field, text, "must be an address of the node") from error
    if address.is_loopback:
        msg = f"unsupported field: {field}={text!r}"
        raise CniError(Code.UNSUPPORTED_FIELD, msg, "127.0.0.1 does not lead to a pod: use another address of the node")
    return address


def _key(mapping: PortMapping) -> bytes:
    protocol, port = values.proto(mapping.protocol), values.port(mapping.port)
    return values.concat(protocol, *([mapping.address.packed] if mapping.address else []), port)


def origin(element: Element) -> Origin:
    veth, _, rest = element.comment.partition(" ")
    network, _, owner = rest.partition(" ")
    return Origin(veth=veth, network=network, owner=owner)


def of_veth(held: Held, veth: str) -> Held:
    """The elements of one attachment."""
    return {name: [one for one in elements if origin(one).veth == veth] for name, elements in held.items()}


def require_free(wanted: Publication, held: Held) -> None:
    """Raise PortTaken when a mapping and somebody else's would meet: same protocol and port, and an address in common."""
    for mapping in wanted.mappings:
        for element in _rivals(mapping, held):
            if origin(element).veth != wanted.veth:
                raise PortTaken(mapping, origin(element))


def _rivals(mapping: PortMapping, held: Held) -> Iterator[Element]:
    key = _key(mapping)
    if mapping.address:
        without_address = key[:4] + key[8:]
        yield from (one for one in held[SPECIFIC] if one.key == key)
        yield from (one for one in held[ANY] if one.key == without_address)
    else:
        yield from (one for one in held[ANY] if one.key == key)
        yield from (one for one in held[SPECIFIC] if one.key[:4] + one.key[8:] == key)


def udp_ports(elements: Held) -> frozenset[int]:
    """The node's UDP ports among some elements."""
    keys = [element.key for name in (ANY, SPECIFIC) for element in elements.get(name, ())]
    return frozenset(int.from_bytes(key[-4:-2], "big") for key in keys if key[0] == UDP)


def pods(elements: Held) -> frozenset[IPv4Address]:
    return frozenset(IPv4Address(element.key[:4]) for element in elements.get(HAIRPIN, ()))


def render(table: str) -> str:
    """The table's fixed part; may be loaded any number of times, leaves the elements alone."""
    return f"""\
add table ip {table}
add map ip {table} {SPECIFIC} {{ type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }}
add map ip {table} {ANY} {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
add set ip {table} {HAIRPIN} {{ type ipv4_addr . ipv4_addr; }}
add chain ip {table} to-pods
add chain ip {table} ports-in {{ type nat hook prerouting priority dstnat; policy accept; }}
add chain ip {table} ports-local {{ type nat hook output priority -100; policy accept; }}
add chain ip {table} ports-hairpin {{ type nat hook postrouting priority srcnat; policy accept; }}
flush chain ip {table} to-pods
flush chain ip {table} ports-in
flush chain ip {table} ports-local
flush chain ip {table} ports-hairpin
add rule ip {table} to-pods dnat ip to meta l4proto . ip daddr . th dport map @{SPECIFIC}
add rule ip {table} to-pods dnat ip to meta l4proto . th dport map @{ANY}
add rule ip {table} ports-in meta l4proto {{ tcp, udp, sctp }} fib daddr type local jump to-pods
add rule ip {table} ports-local meta l4proto {{ tcp, udp, sctp }} ip daddr != 127.0.0.0/8 fib daddr type local jump to-pods
add rule ip {table} ports-hairpin ct status dnat ip saddr . ip daddr @{HAIRPIN} masquerade fully-random
"""
