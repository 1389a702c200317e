"""What is read out of the kernel's notices, bytes made by hand."""

import struct

import pytest

from dataplane.netlink.monitor import OVERRUN, Change, Kind, parse_changes

NEWLINK, DELLINK, NEWADDR, NEWROUTE, DELROUTE, NEWNEIGH = 16, 17, 20, 24, 25, 28
INET, INET6 = 2, 10
MAIN, LOCAL = 254, 255
KERNEL, OURS = 2, 112
UNIVERSE, LINK_SCOPE = 0, 253


def message(kind: int, body: bytes) -> bytes:
    padding = b"\0" * (-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + padding


def link(kind: int, index: int) -> bytes:
    return message(kind, struct.pack("=BxHiII", 0, 1, index, 0, 0))


def address(family: int, scope: int, index: int = 3) -> bytes:
    return message(NEWADDR, struct.pack("=BBBBI", family, 24, 0, scope, index))


def route(family: int, table: int, protocol: int, kind: int = NEWROUTE) -> bytes:
    return message(kind, struct.pack("=BBBBBBBBI", family, 24, 0, 0, table, protocol, 0, 1, 0))


@pytest.mark.parametrize("kind", [NEWLINK, DELLINK])
def test_a_link_is_named_by_its_index(kind: int) -> None:
    assert parse_changes(link(kind, 7)) == [Change(kind=Kind.LINK, index=7)]


def test_a_route_is_named_by_its_protocol() -> None:
    assert parse_changes(route(INET, MAIN, OURS, DELROUTE)) == [Change(kind=Kind.ROUTE, protocol=OURS)]


def test_several_messages_of_one_datagram_are_all_read() -> None:
    assert parse_changes(link(NEWLINK, 7) + address(INET, UNIVERSE)) == [
        Change(kind=Kind.LINK, index=7),
        Change(kind=Kind.ADDRESS, index=3),
    ]


@pytest.mark.parametrize(
    "notice",
    [
        pytest.param(address(INET6, LINK_SCOPE), id="link-local address"),
        pytest.param(route(INET6, MAIN, KERNEL), id="IPv6 route of the kernel"),
        pytest.param(route(INET, LOCAL, KERNEL), id="local table"),
        pytest.param(message(NEWNEIGH, b"\0" * 12), id="neighbour"),
    ],
)
def test_what_the_kernel_does_for_every_pod_is_no_news(notice: bytes) -> None:
    assert parse_changes(notice) == []


@pytest.mark.parametrize("length", range(8))
def test_a_message_cut_short_means_look_at_everything(length: int) -> None:
    assert parse_changes(message(NEWROUTE, b"\1" * length)) == [OVERRUN]


@pytest.mark.parametrize("garbage", [b"", b"\0", b"\0" * 15, b"\0" * 64, b"\xff" * 64])
def test_garbage_ends(garbage: bytes) -> None:
    assert parse_changes(garbage) == []
