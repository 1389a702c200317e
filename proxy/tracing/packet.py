"""The first packet of a connection, and the host it comes to: what a trace begins with."""

from enum import Enum
from typing import Final

import msgspec

from proxy.model import Address

ICMP: Final = "ICMP"
PROTOCOL_NUMBERS: Final = {"TCP": 6, "UDP": 17, "SCTP": 132, ICMP: 1}  # IANA protocol numbers


class Origin(Enum):
    """Where a packet comes from, as its node sees it."""

    POD = "a pod of this node"
    NODE = "this node itself"
    OUTSIDE = "outside this node"


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """A packet that begins a connection. `port` is 0 for ICMP: a ping has none."""

    source: Address
    destination: Address
    protocol: str = "TCP"
    port: int = 0
    origin: Origin = Origin.OUTSIDE
    interface: str = ""
    """By which it comes in; empty if it is not known, or if it comes from the node."""

    @property
    def is_from_node(self) -> bool:
        return self.origin is Origin.NODE


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel knows of its own addresses."""

    addresses: frozenset[Address] = frozenset()

    def has(self, address: Address) -> bool:
        return address.is_loopback or address in self.addresses
