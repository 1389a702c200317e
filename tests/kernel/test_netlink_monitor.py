"""News of changes, made with iproute2 in a namespace of the test.

Address plan: veth left and right, left has 10.1.0.1/24; 10.2.0.0/24 is behind 10.1.0.9.
"""

from collections.abc import Callable, Iterator

import pytest

from dataplane import netns
from dataplane.netlink.monitor import OVERRUN, Change, Kind, Monitor
from tests.namespaces import Namespace
from tests.waiting import eventually

OURS = 112


@pytest.fixture
def namespace(make_namespace: Callable[[str], Namespace]) -> Namespace:
    made = make_namespace("news")
    made.run("ip", "link", "add", "name", "left", "type", "veth", "peer", "name", "right")
    for end in ("left", "right"):
        made.run("ip", "link", "set", end, "up")
    made.run("ip", "address", "add", "10.1.0.1/24", "dev", "left")
    return made


@pytest.fixture
def monitor(namespace: Namespace) -> Iterator[Monitor]:
    with netns.open_netns(namespace.path) as opened:
        monitor = Monitor(opened.fd)
    yield monitor
    monitor.close()


def index(namespace: Namespace, name: str) -> int:
    return int(namespace.run("ip", "-o", "link", "show", name).split(":")[0])


def comes(monitor: Monitor, expected: Change) -> None:
    eventually(lambda: expected in monitor.changes(0.05))


def until(monitor: Monitor, last: Change) -> list[Change]:
    """All news up to `last`."""
    seen: list[Change] = []
    eventually(lambda: last in seen or seen.extend(monitor.changes(0.05)))
    return seen


def test_what_the_kernel_does_for_a_link_that_comes_up_is_not_reported(namespace: Namespace, monitor: Monitor) -> None:
    namespace.run("ip", "link", "set", "right", "down")
    namespace.run("ip", "link", "set", "right", "up")
    namespace.run("ip", "route", "add", "10.2.0.0/24", "via", "10.1.0.9", "proto", str(OURS))
    ours = Change(kind=Kind.ROUTE, protocol=OURS)
    assert {change.kind for change in until(monitor, ours) if change != ours} == {Kind.LINK}


@pytest.mark.parametrize("verb", ["add", "del"])
def test_a_route_of_ours_is_reported(namespace: Namespace, monitor: Monitor, verb: str) -> None:
    route = ["10.2.0.0/24", "via", "10.1.0.9", "proto", str(OURS)]
    if verb == "del":
        namespace.run("ip", "route", "add", *route)
        comes(monitor, Change(kind=Kind.ROUTE, protocol=OURS))
    namespace.run("ip", "route", verb, *route)
    comes(monitor, Change(kind=Kind.ROUTE, protocol=OURS))


def test_an_address_is_reported_with_its_link(namespace: Namespace, monitor: Monitor) -> None:
    namespace.run("ip", "address", "add", "10.3.0.1/24", "dev", "left")
    comes(monitor, Change(kind=Kind.ADDRESS, index=index(namespace, "left")))


def test_a_link_that_goes_down_is_reported_though_its_routes_go_silently(
    namespace: Namespace, monitor: Monitor
) -> None:
    namespace.run("ip", "link", "set", "left", "down")
    comes(monitor, Change(kind=Kind.LINK, index=index(namespace, "left")))


def test_other_namespaces_are_not_reported(
    namespace: Namespace, monitor: Monitor, make_namespace: Callable[[str], Namespace]
) -> None:
    make_namespace("other").run("ip", "address", "add", "10.9.0.1/24", "dev", "lo")
    namespace.run("ip", "route", "add", "10.2.0.0/24", "via", "10.1.0.9", "proto", str(OURS))
    news = until(monitor, Change(kind=Kind.ROUTE, protocol=OURS))
    assert Change(kind=Kind.ADDRESS, index=index(namespace, "lo")) not in news


def test_a_reader_that_is_too_slow_is_told_to_look_at_everything(namespace: Namespace) -> None:
    with netns.open_netns(namespace.path) as opened:
        small = Monitor(opened.fd, receive_buffer=4096)
    commands = "\n".join(f"route add 10.2.{number}.0/24 via 10.1.0.9 proto {OURS}" for number in range(200))
    namespace.run("ip", "-batch", "-", stdin=commands)
    assert OVERRUN in small.changes(1)
    namespace.run("ip", "route", "add", "10.3.0.0/24", "via", "10.1.0.9", "proto", str(OURS))
    assert OVERRUN not in until(small, Change(kind=Kind.ROUTE, protocol=OURS))
    small.close()
