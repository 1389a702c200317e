"""Addresses as they are spelled in API objects, read by the kernel's rules: strict, and cheap for each of 100,000 endpoints."""

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Final

_FAMILIES: Final[dict[int, socket.AddressFamily]] = {4: socket.AF_INET, 6: socket.AF_INET6}
_SPECIAL_FIRST_BYTES: Final = frozenset((0, 127, *range(224, 240)))


def parse(text: str) -> IPv4Address | IPv6Address:
    """Raises ValueError for anything but an address: inet_pton(3) takes no zone, no zero before an octet's digits."""
    try:
        return ipaddress.ip_address(socket.inet_pton(_FAMILIES[6 if ":" in text else 4], text))
    except OSError as error:
        raise ValueError(text) from error


def packed_address(text: str, version: int) -> bytes | None:
    """The address of a host, of this version; None for anything else."""
    try:
        packed = socket.inet_pton(_FAMILIES[version], text)
    except (OSError, ValueError):  # ValueError: a NUL, or what has no encoding
        return None
    return packed if is_of_a_host(packed) else None


def is_of_a_host(packed: bytes) -> bool:
    """Whether packets from anywhere can be meant for it. Kubernetes refuses others (validation.ValidateNonSpecialIP)."""
    if len(packed) == 4:
        return packed[0] not in _SPECIAL_FIRST_BYTES and packed[:2] != b"\xa9\xfe" and packed != b"\xff\xff\xff\xff"
    is_link_local = packed[0] == 0xFE and packed[1] & 0xC0 == 0x80
    return not (packed[0] == 0xFF or is_link_local or packed[:10] == bytes(10))
