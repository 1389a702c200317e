"""Links, addresses and routes as values: what the kernel has, and what it is asked to make.

Pure. What is read back compares equal to what was asked for, so that desired and actual can be compared as sets.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface


class Scope(IntEnum):
    """How far away a route's destination is (rtnetlink(7))."""

    UNIVERSE = 0  # behind a gateway
    LINK = 253  # on the link itself
    HOST = 254  # this host


class Protocol(IntEnum):
    """Who put a route there (include/uapi/linux/rtnetlink.h). Other numbers are other programs'."""

    UNSPEC = 0
    KERNEL = 2  # comes and goes with an address
    BOOT = 3  # what `ip route add` says
    STATIC = 4
    PODWIRE = 112


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network interface as the kernel reports it. `master` and `peer_index` are interface indexes."""

    name: str
    index: int
    kind: str = ""  # "" for hardware and loopback
    mac: str = ""
    mtu: int = 1500
    up: bool = False
    alias: str = ""
    master: int | None = None
    hairpin: bool = False  # a bridge port that may send a frame back where it came from
    nf_call_iptables: bool = False  # a bridge that shows its frames to the IPv4 hooks, whatever the sysctl says
    nf_call_ip6tables: bool = False
    peer_index: int | None = None  # the other end of a veth, an index in the peer's namespace
    peer_netnsid: int | None = None  # set when the other end is in another namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A bridge to create. Its MAC is set in the same message: else it changes with every port that joins or leaves."""

    name: str
    mac: str
    mtu: int = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class VethEnd:
    name: str
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VethPair:
    """A veth to create: `host` here, on the bridge `master` if there is one; `peer` in the namespace `netns_fd`."""

    host: VethEnd
    peer: VethEnd
    netns_fd: int
    mtu: int = 1500
    master: str | None = None
    alias: str = ""
    hairpin: bool = False

    def __str__(self) -> str:
        bridge = f" on bridge {self.master}" if self.master else ""
        return f"veth {self.host.name}{bridge} with {self.peer.name} in namespace descriptor {self.netns_fd}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceAddress:
    """An address with its prefix. `nodad`: an IPv6 address is usable at once, without asking the link for duplicates."""

    interface: Interface
    nodad: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOptions:
    """What a route may ask for beyond its way. It is not read back: the kernel fills in what nobody asked for."""

    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None  # None: main


PLAIN = RouteOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A unicast route of the main table, unless its options say otherwise."""

    destination: Network
    gateway: Address | None = None
    device: str | None = None
    source: Address | None = None
    scope: Scope | None = None  # None: LINK without a gateway, UNIVERSE with one, as `ip route` chooses
    protocol: int = Protocol.BOOT
    options: RouteOptions = field(default=PLAIN, compare=False)

    def __post_init__(self) -> None:
        if self.scope is None:
            object.__setattr__(self, "scope", self._natural_scope())

    def _natural_scope(self) -> Scope:
        # IPv6 has no scopes: the kernel reports every route as UNIVERSE.
        return Scope.UNIVERSE if self.gateway or self.destination.version == 6 else Scope.LINK

    def __str__(self) -> str:
        gateway = f" via {self.gateway}" if self.gateway else ""
        device = f" dev {self.device}" if self.device else ""
        source = f" src {self.source}" if self.source else ""
        return f"{self.destination}{gateway}{device}{source} proto {int(self.protocol)}"
