"""The names and keys by which the proxy's maps and chains are known: what ruleset.nft declares, spelled once for Python.

A key is built the way the kernel compares it, field by field in whole registers; see the comments of the maps there.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from dataplane.nft import values
from dataplane.nft.objects import Family
from proxy.model import Address, Protocol, Scope, ServicePort, ServicePortName, Target

TABLE: Final = "podwire-proxy"

SERVICES: Final = "services"
SINGLE_ENDPOINT: Final = "single-endpoint"
ENDPOINTS: Final = "endpoints"
RING: Final = "ring"
OUTSIDE: Final = "outside"
NODE_PORTS: Final = "nodeports"
SERVED_NODE_PORTS: Final = "served-nodeports"
OUTSIDE_NODE_PORTS: Final = "outside-nodeports"
SERVED_EXTERNALS: Final = "served-externals"
NO_ENDPOINTS: Final = "no-endpoints"
NO_ENDPOINTS_NODE_PORTS: Final = "no-endpoints-nodeports"
FIREWALLED: Final = "firewalled"
ALLOWED_SOURCES: Final = "allowed-sources"
KEEP_SOURCE: Final = "keep-source"
CLUSTER_IPS: Final = "cluster-ips"
HAIRPIN: Final = "hairpin"
AFFINITY: Final = "affinity"
KEPT: Final = {Scope.CLUSTER: "kept-cluster", Scope.LOCAL: "kept-local"}

# What the proxy writes; the elements of AFFINITY belong to the kernel.
WRITTEN: Final = (
    SERVICES,
    SINGLE_ENDPOINT,
    OUTSIDE,
    NODE_PORTS,
    SERVED_NODE_PORTS,
    OUTSIDE_NODE_PORTS,
    SERVED_EXTERNALS,
    NO_ENDPOINTS,
    NO_ENDPOINTS_NODE_PORTS,
    FIREWALLED,
    ALLOWED_SOURCES,
    ENDPOINTS,
    RING,
    CLUSTER_IPS,
    KEEP_SOURCE,
    *KEPT.values(),
    HAIRPIN,
)

# Where a packet looks only after an earlier look-up or rule has sent it there.
LOOKED_UP_LATE: Final = frozenset({SINGLE_ENDPOINT, RING, ENDPOINTS, KEEP_SOURCE, HAIRPIN, *KEPT.values()})

PICK: Final = "pick"
TO_ENDPOINT: Final = "to-endpoint"
DISPATCH: Final = "dispatch"

# Endpoint ids are conntrack marks. The leading bits 01 tell them from ring positions, and from most of other software's
# marks. Each Service port has a share of them; the first of a share is the Service port's own number.
ENDPOINT_IDS: Final = range(0x4000_0000, 0x8000_0000)
IDS_A_PORT: Final = 1 << 13
PORT_MASK: Final = 0xFFFF_FFFF - IDS_A_PORT + 1
RING_POSITIONS: Final = range(1, 0x4000_0000)

PROTOCOL_NUMBERS: Final[dict[Protocol, int]] = {"TCP": 6, "UDP": 17, "SCTP": 132}  # IANA protocol numbers

FROM_NETWORK: Final = "from-network"
NODE_COMMENT: Final = "node "
LOCALHOST_CHAINS: Final = frozenset({"localhost-output", "localhost-prerouting", "localhost-input"})
NODE_CHAINS: Final = frozenset(
    {
        FROM_NETWORK,
        "from-node",
        "to-node",
        "outside-to-node",
        "refuse-to-node",
        "stray-to-node",
        "source",
        "unallocated",
        "localhost",
        *LOCALHOST_CHAINS,
    }
)

_CHAIN_PREFIXES: Final = {Scope.CLUSTER: "svc-", Scope.LOCAL: "loc-"}
_KEPT_CHAIN: Final = "kept"
_STICKY: Final = {None: "sticky-", Scope.CLUSTER: "sticky-cluster-", Scope.LOCAL: "sticky-local-"}
_STICK: Final = "stick-"
_AFFINITY_CHAIN: Final = re.compile(f"(?:{'|'.join(_STICKY.values())}|{_STICK})([1-9][0-9]{{0,9}})")
_READABLE_MAX: Final = 200  # the kernel's limit is 255 with prefix and hash
# RFC 4648 base32, two characters at a time: names are made for every Service of a cluster.
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = tuple(f"{one}{two}" for one in _BASE32 for two in _BASE32)
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9/._-]")


def frontend(port: ServicePort, address: Address | None = None) -> bytes:
    """The key of a Service port in SERVICES, SINGLE_ENDPOINT, OUTSIDE …: at its cluster IP or another address of it."""
    return (address or port.cluster_ip).packed + protocol_and_port(port.name.protocol, port.port)


def node_port(port: ServicePort) -> bytes:
    """The key of a Service port in NODE_PORTS and its like."""
    return protocol_and_port(port.name.protocol, port.node_port)


@lru_cache(maxsize=1024)
def protocol_and_port(protocol: Protocol, number: int) -> bytes:
    """What such a key ends in."""
    return values.concat(values.proto(PROTOCOL_NUMBERS[protocol]), values.port(number))


def leads(port: ServicePort, scope: Scope) -> Iterator[tuple[str, bytes]]:
    """Where the elements stand that lead to the port's endpoints of this scope."""
    if port.local_only is (scope is Scope.LOCAL):
        yield SINGLE_ENDPOINT, frontend(port)
        yield SERVICES, frontend(port)
    for address in port.external_addresses:
        for set_name in (SINGLE_ENDPOINT, SERVICES) if scope is Scope.CLUSTER else (OUTSIDE,):
            yield set_name, frontend(port, address)
    if port.node_port:
        yield NODE_PORTS if scope is Scope.CLUSTER else OUTSIDE_NODE_PORTS, node_port(port)


def target_value(target: Target) -> bytes:
    """The value of an endpoint in ENDPOINTS."""
    return target.packed + _padded_port(target.port)


_padded_port: Final = lru_cache(maxsize=1024)(values.padded_port)


def target(value: bytes) -> Target:
    """The target of such a value."""
    return Target(value[:-4], int.from_bytes(value[-4:-2], "big"))


def hairpin_key(mark: bytes, target: Target) -> bytes:
    """The key of an endpoint in HAIRPIN; `mark` is its id."""
    return values.concat(mark, target.packed)


@lru_cache(maxsize=16)  # a Service port's is asked for again and again while it is rendered
def chain_name(name: ServicePortName, scope: Scope = Scope.CLUSTER) -> str:
    """A name unique for the machine (the hash) and readable for people: svc-abcdefgh-default/web/http/tcp."""
    parts = (name.service.namespace, name.service.name, name.port, name.protocol.lower())
    digest = int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:5], "big")
    hashed = "".join([_PAIRS[digest >> shift & 0x3FF] for shift in (30, 20, 10, 0)])
    readable = _NOT_IN_A_NAME.sub("_", "/".join(part for part in parts if part))
    return f"{_CHAIN_PREFIXES[scope]}{hashed}-{readable[:_READABLE_MAX]}"


def form(set_name: str, family: Family) -> tuple[int, int | None]:
    """How many bytes a key and a value of this set have; a verdict or nothing has None."""
    address = 4 if family is Family.IP else 16
    front, mark = address + 8, 4
    forms: dict[str, tuple[int, int | None]] = {
        SERVICES: (front, None),
        SINGLE_ENDPOINT: (front, mark),
        ENDPOINTS: (mark, address + 4),
        RING: (mark, mark),
        OUTSIDE: (front, None),
        NODE_PORTS: (8, None),
        SERVED_NODE_PORTS: (8, None),
        OUTSIDE_NODE_PORTS: (8, None),
        SERVED_EXTERNALS: (front, None),
        NO_ENDPOINTS: (front, None),
        NO_ENDPOINTS_NODE_PORTS: (8, None),
        FIREWALLED: (front, None),
        ALLOWED_SOURCES: (front + address, None),
        KEEP_SOURCE: (mark, None),
        CLUSTER_IPS: (address, None),
        HAIRPIN: (mark + address, None),
        # nft 1.0.6 compiles keys of dynamic maps up to 16 bytes: of an IPv6 client the last 12.
        AFFINITY: (min(address, 12) + mark, mark),
        **dict.fromkeys(KEPT.values(), (mark, None)),
    }
    return forms[set_name]


def port_number(endpoint_id: int) -> int:
    """The number of the Service port that an endpoint id belongs to: a mark that no endpoint has."""
    return endpoint_id & PORT_MASK


def sticky_chain(seconds: int, scope: Scope | None = None) -> str:
    """The chain that sends clients where they were before; where that may be out of scope, the one that looks at it."""
    return f"{_STICKY[scope]}{seconds}"


def stick_chain(seconds: int) -> str:
    return f"{_STICK}{seconds}"


def affinity_seconds(chain: str) -> int | None:
    """The timeout a chain of affinity.nft serves; None for any other chain."""
    match = _AFFINITY_CHAIN.fullmatch(chain)
    return int(match[1]) if match else None


def affinity_chains(timeouts: Iterable[int]) -> frozenset[str]:
    """The chains that affinity.nft makes for these timeouts."""
    names = frozenset(f"{prefix}{seconds}" for seconds in timeouts for prefix in (*_STICKY.values(), _STICK))
    return names | {_KEPT_CHAIN} if names else names


def is_affinity_chain(chain: str) -> bool:
    return chain == _KEPT_CHAIN or affinity_seconds(chain) is not None
