"""Routes kept in a namespace in memory.

Address plan: this node is one, 192.0.2.1/24 on eth0; nodes two and three are .2 and .3; podCIDRs 10.244.N.0/24.
"""

from ipaddress import ip_address, ip_interface, ip_network

import pytest
import structlog

from dataplane.errors import DataplaneError
from dataplane.netlink.fake import FakeNetlink
from dataplane.netlink.objects import Bridge, InterfaceAddress, Protocol, Route
from node.members import Cluster, Member
from node.problems import ProblemLog
from node.route_table import RoutesRefused, RouteTable


def member(number: int, gateway: int | None = None) -> Member:
    cidr = ip_network(f"10.244.{number}.0/24")
    return Member(name=f"n{number}", addresses=(ip_address(f"192.0.2.{gateway or number}"),), pod_cidrs=(cidr,))


def cluster(*members: Member) -> Cluster:
    return Cluster(members=(member(1), *members))


def route(number: int, gateway: int, protocol: int = Protocol.PODWIRE) -> Route:
    return Route(
        destination=ip_network(f"10.244.{number}.0/24"),
        gateway=ip_address(f"192.0.2.{gateway}"),
        device="eth0",
        protocol=protocol,
    )


class Recording(FakeNetlink):
    """Counts what was written and can be told to refuse a destination."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []
        self.create_bridge(Bridge(name="eth0", mac="02:00:00:00:00:01"))
        self.add_address("eth0", InterfaceAddress(interface=ip_interface("192.0.2.1/24")))

    def add_route(self, route: Route) -> None:
        self.written.append(f"add {route.destination}")
        super().add_route(route)

    def replace_route(self, route: Route) -> None:
        self.written.append(f"replace {route.destination}")
        super().replace_route(route)

    def delete_route(self, route: Route) -> None:
        self.written.append(f"delete {route.destination}")
        super().delete_route(route)


@pytest.fixture
def netlink() -> Recording:
    return Recording()


@pytest.fixture
def table(netlink: Recording) -> RouteTable:
    return RouteTable(netlink, "n1", ProblemLog())


def ours(netlink: FakeNetlink) -> set[Route]:
    return set(netlink.routes(Protocol.PODWIRE))


def test_routes_appear_change_and_go_with_the_nodes(netlink: Recording, table: RouteTable) -> None:
    for members, expected in (
        ((member(2), member(3)), {route(2, 2), route(3, 3)}),
        ((member(2, gateway=9), member(3)), {route(2, 9), route(3, 3)}),
        ((member(3),), {route(3, 3)}),
        ((), set()),
    ):
        table.sync(cluster(*members))
        assert ours(netlink) == expected


def test_a_round_without_change_writes_nothing(netlink: Recording, table: RouteTable) -> None:
    table.sync(cluster(member(2)))
    netlink.written.clear()
    table.sync(cluster(member(2)))
    assert netlink.written == []


def test_a_restarted_agent_adopts_its_routes(netlink: Recording, table: RouteTable) -> None:
    table.sync(cluster(member(2)))
    netlink.written.clear()
    RouteTable(netlink, "n1", ProblemLog()).sync(cluster(member(2)))
    assert netlink.written == []


def test_a_moved_node_is_one_replacement(netlink: Recording, table: RouteTable) -> None:
    table.sync(cluster(member(2)))
    netlink.written.clear()
    table.sync(cluster(member(2, gateway=9)))
    assert netlink.written == ["replace 10.244.2.0/24"]


def test_routes_of_others_are_never_touched(netlink: Recording, table: RouteTable) -> None:
    foreign = route(7, 9, Protocol.STATIC)
    netlink.add_route(foreign)
    table.sync(cluster(member(2)))
    table.sync(cluster())
    assert foreign in netlink.routes()


def test_a_destination_held_by_another_program_is_reported_once_and_stops_no_other(
    netlink: Recording, table: RouteTable
) -> None:
    netlink.add_route(route(2, 9, Protocol.STATIC))
    with structlog.testing.capture_logs() as logs:
        table.sync(cluster(member(2), member(3)))
        table.sync(cluster(member(2), member(3)))
    assert ours(netlink) == {route(3, 3)}
    warnings = [line["problem"] for line in logs if line["log_level"] == "warning"]
    assert len(warnings) == 1
    assert "ip route show 10.244.2.0/24" in warnings[0]


def test_the_route_is_added_once_the_other_program_lets_go(netlink: Recording, table: RouteTable) -> None:
    netlink.add_route(route(2, 9, Protocol.STATIC))
    table.sync(cluster(member(2)))
    netlink.delete_route(route(2, 9, Protocol.STATIC))
    table.sync(cluster(member(2)))
    assert ours(netlink) == {route(2, 2)}


def test_what_the_kernel_refuses_is_raised_after_the_rest_is_done(netlink: Recording, table: RouteTable) -> None:
    def refuse(route: Route) -> None:
        raise DataplaneError(f"add route {route}", 12)

    real = netlink.add_route
    netlink.add_route = lambda wanted: refuse(wanted) if wanted.destination == route(2, 2).destination else real(wanted)
    with pytest.raises(RoutesRefused, match=r"add route 10\.244\.2\.0/24.*ENOMEM"):
        table.sync(cluster(member(2), member(3)))
    assert ours(netlink) == {route(3, 3)}


def test_the_links_to_other_nodes_are_known_for_good(netlink: Recording, table: RouteTable) -> None:
    table.sync(cluster(member(2)))
    table.sync(cluster())
    assert table.devices == {netlink.link("eth0").index}
