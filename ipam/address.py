"""The two address families as one: everything that counts and compares works on numbers, whatever their width."""

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

Span = tuple[int, int]
"""The first and the last number of a stretch of addresses, both included."""

OCTETS = {4: 4, 6: 16}


def address(version: int, number: int) -> Address:
    return IPv4Address(number) if version == 4 else IPv6Address(number)


def packed(version: int, number: int) -> bytes:
    """The number as it stands in a packet. Within a family, bytes sort as the addresses do."""
    return number.to_bytes(OCTETS[version], "big")


def span(part: Address | Network) -> Span:
    """What an address or a network covers."""
    if isinstance(part, (IPv4Network, IPv6Network)):
        return int(part.network_address), int(part.broadcast_address)
    return int(part), int(part)


def merged(spans: list[Span]) -> tuple[Span, ...]:
    """The same numbers as spans that are sorted and neither overlap nor touch."""
    kept: list[Span] = []
    for first, last in sorted(spans):
        if kept and first <= kept[-1][1] + 1:
            kept[-1] = (kept[-1][0], max(kept[-1][1], last))
        else:
            kept.append((first, last))
    return tuple(kept)
