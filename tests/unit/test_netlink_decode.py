"""Routes out of bytes made by hand."""

import struct
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.netlink import decode, transport
from dataplane.netlink.objects import Protocol, Route, Scope

INET, INET6 = 2, 10
DST, OIF, GATEWAY, PREFSRC = 1, 4, 5, 7


def body(family: int, length: int, attributes: dict[int, bytes], *, scope: int = 0, kind: int = 1) -> bytes:
    fixed = struct.pack("=BBBBBBBBI", family, length, 0, 0, 254, 112, scope, kind, 0)
    parts = [
        struct.pack("=HH", 4 + len(value), name) + value + b"\0" * (-len(value) % 4)
        for name, value in attributes.items()
    ]
    return fixed + b"".join(parts)


def names(index: int) -> str | None:
    return {3: "eth0"}.get(index)


def test_a_route_through_a_gateway() -> None:
    attributes = {DST: bytes([10, 244, 2, 0]), GATEWAY: bytes([192, 0, 2, 2]), OIF: struct.pack("=I", 3)}
    assert decode.route(body(INET, 24, attributes), names) == Route(
        destination=ip_network("10.244.2.0/24"),
        gateway=ip_address("192.0.2.2"),
        device="eth0",
        protocol=Protocol.PODWIRE,
    )


def test_a_default_route_has_no_destination_attribute() -> None:
    assert decode.route(body(INET, 0, {}), names).destination == ip_network("0.0.0.0/0")
    assert decode.route(body(INET6, 0, {}), names).destination == ip_network("::/0")


def test_an_ipv6_route_with_a_source() -> None:
    source = ip_address("fd00::1")
    route = decode.route(body(INET6, 64, {DST: ip_address("fd01::").packed, PREFSRC: source.packed}), names)
    assert (route.destination, route.source, route.gateway, route.device) == (
        ip_network("fd01::/64"),
        source,
        None,
        None,
    )


@pytest.mark.parametrize("scope", list(Scope))
def test_the_scope_is_read(scope: Scope) -> None:
    assert decode.route(body(INET, 0, {}, scope=scope), names).scope == scope


@pytest.mark.parametrize(("kind", "expected"), [(1, True), (2, False), (6, False)])
def test_unicast_routes_are_told_from_local_and_blackhole_ones(kind: int, *, expected: bool) -> None:
    assert decode.is_unicast(body(INET, 0, {}, kind=kind)) is expected


@given(st.binary(max_size=200))
def test_attributes_of_garbage_end(garbage: bytes) -> None:
    assert sum(len(value) for value in decode.attributes(garbage).values()) <= len(garbage)


@given(st.binary(max_size=200))
def test_messages_of_garbage_end(garbage: bytes) -> None:
    assert sum(len(message.whole) for message in transport.messages(garbage)) <= len(garbage)
