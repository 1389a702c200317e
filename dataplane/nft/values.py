"""Keys and values of nft maps as the kernel holds them: plain bytes, and verdicts.

A mark is in the host's byte order because packet and conntrack marks are plain integers in the kernel; everything that
comes out of a packet is in network byte order. A concatenation pads each field to a whole 32-bit register.
"""

from ipaddress import IPv4Address
from struct import Struct
from typing import Literal

import msgspec

MARK_MAX = 0xFFFFFFFF
PORT_MAX = 0xFFFF

VerdictKind = Literal["accept", "drop", "continue", "return", "jump", "goto"]
_MARK = Struct("=I")
_PORT = Struct("!H")
_PADDED_PORT = Struct("!H2x")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What happens to the packet next; `chain` is set for jump and goto only."""

    kind: VerdictKind
    chain: str = ""

    def __post_init__(self) -> None:
        if bool(self.chain) != (self.kind in {"jump", "goto"}):
            raise InvalidVerdict(self.kind, self.chain)

    def __str__(self) -> str:
        return f"{self.kind} {self.chain}".rstrip()


class InvalidVerdict(ValueError):
    """Jump and goto need a chain, and no other verdict has one."""

    def __init__(self, kind: str, chain: str) -> None:
        super().__init__(kind, chain)
        self.kind = kind
        self.chain = chain

    def __str__(self) -> str:
        return f"verdict {self.kind!r} with chain {self.chain!r}: jump and goto need a chain, the others have none"


def mark(number: int) -> bytes:
    """A packet or conntrack mark, or anything kept in one: endpoint ids, ring positions, service ids."""
    return _MARK.pack(number)


def mark_number(value: bytes) -> int:
    """The number `mark` packed."""
    number: int = _MARK.unpack(value)[0]
    return number


def ipv4(address: IPv4Address) -> bytes:
    return address.packed


def port(number: int) -> bytes:
    """A transport port (nft's inet_service)."""
    return _PORT.pack(number)


def padded_port(number: int) -> bytes:
    """A transport port as a field of a concatenation."""
    return _PADDED_PORT.pack(number)


def proto(number: int) -> bytes:
    """A protocol number of IPv4's header (nft's inet_proto): 6 is tcp."""
    return bytes((number,))


def concat(*fields: bytes) -> bytes:
    """Fields of a concatenation, each in registers of its own."""
    return b"".join([field + _PADDING[len(field) & 3] for field in fields])
