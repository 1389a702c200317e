"""Which routes the cluster asks for, and what turns the actual ones into them.

Address plan: this node is one (192.0.2.1); two 192.0.2.2 and three 192.0.2.3 are on its link; podCIDRs 10.244.N.0/24.
"""

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from dataplane.netlink.objects import Protocol, Route
from node import routes
from node.members import Cluster, Member


def member(name: str, number: int) -> Member:
    cidr = ip_network(f"10.244.{number}.0/24")
    return Member(name=name, addresses=(ip_address(f"192.0.2.{number}"),), pod_cidrs=(cidr,))


def route(number: int, gateway: int, device: str = "eth0") -> Route:
    return Route(
        destination=ip_network(f"10.244.{number}.0/24"),
        gateway=ip_address(f"192.0.2.{gateway}"),
        device=device,
        protocol=Protocol.PODWIRE,
    )


def way(address: str, device: str = "eth0", gateway: str | None = None) -> Route:
    return Route(
        destination=ip_network(address), device=device, gateway=ip_address(gateway) if gateway else None, protocol=0
    )


CLUSTER = Cluster(members=(member("one", 1), member("two", 2), member("three", 3)))
WAYS = {ip_address(f"192.0.2.{number}"): way(f"192.0.2.{number}") for number in (2, 3)}


def said(cluster: Cluster, ways: dict) -> str:
    (problem,) = routes.render(cluster, "one", ways).problems
    return f"{problem.node}: {problem.text}"


def test_every_other_nodes_podcidr_is_routed_through_its_address() -> None:
    assert routes.render(CLUSTER, "one", WAYS).routes == {route(2, 2), route(3, 3)}


def test_the_gateways_are_the_other_nodes() -> None:
    assert routes.gateways(CLUSTER, "one") == {ip_address("192.0.2.2"), ip_address("192.0.2.3")}


def test_a_lone_node_needs_no_routes() -> None:
    assert routes.render(Cluster(members=(member("one", 1),)), "one", {}) == routes.Desired()


def test_a_node_without_podcidr_needs_no_address() -> None:
    cluster = Cluster(members=(member("one", 1), Member(name="new")))
    assert routes.render(cluster, "one", {}) == routes.Desired()


def test_a_node_behind_a_gateway_is_skipped_and_the_operator_told_how_it_is_reached() -> None:
    ways = WAYS | {ip_address("192.0.2.3"): way("192.0.2.3", gateway="192.0.2.254")}
    assert routes.render(CLUSTER, "one", ways).routes == {route(2, 2)}
    assert "three: no route to its podCIDR 10.244.3.0/24" in said(CLUSTER, ways)
    assert "behind 192.0.2.254 on eth0" in said(CLUSTER, ways)


def test_a_node_that_cannot_be_reached_at_all_is_skipped() -> None:
    ways = {ip_address("192.0.2.2"): way("192.0.2.2")}
    assert routes.render(CLUSTER, "one", ways).routes == {route(2, 2)}
    assert "no route to its address 192.0.2.3" in said(CLUSTER, ways)


def test_a_node_with_this_nodes_address_is_skipped() -> None:
    cluster = Cluster(
        members=(
            member("one", 1),
            Member(name="twin", addresses=(ip_address("192.0.2.1"),), pod_cidrs=(ip_network("10.244.9.0/24"),)),
        )
    )
    ways = {ip_address("192.0.2.1"): way("192.0.2.1", device="lo")}
    assert "is this node's own" in said(cluster, ways)


def test_a_node_without_an_address_of_the_family_is_skipped() -> None:
    six = Member(name="six", addresses=(ip_address("192.0.2.6"),), pod_cidrs=(ip_network("fd00:6::/64"),))
    assert said(Cluster(members=(six,)), WAYS) == "six: no route to its podCIDR fd00:6::/64: it has no IPv6 InternalIP"


def test_nothing_to_do_is_an_empty_plan() -> None:
    assert routes.plan([route(2, 2)], [route(2, 2)]) == routes.Plan()


def test_a_moved_gateway_is_replaced_without_a_gap() -> None:
    assert routes.plan([route(2, 2)], [route(2, 3)]) == routes.Plan(replace=(route(2, 3),))


def test_a_node_that_left_is_deleted_and_one_that_came_is_added() -> None:
    assert routes.plan([route(2, 2)], [route(3, 3)]) == routes.Plan(add=(route(3, 3),), delete=(route(2, 2),))


def test_a_second_route_to_a_desired_destination_is_deleted() -> None:
    assert routes.plan([route(2, 2), route(2, 9)], [route(2, 2)]) == routes.Plan(delete=(route(2, 9),))


some_routes = st.frozensets(st.builds(route, st.integers(1, 5), st.integers(1, 4), st.sampled_from(["eth0", "eth1"])))
one_per_destination = some_routes.map(lambda found: frozenset({each.destination: each for each in found}.values()))


@given(actual=some_routes, desired=one_per_destination)
def test_applying_a_plan_reaches_the_desired_routes_in_at_most_two_rounds(actual, desired) -> None:
    once = after(actual, routes.plan(actual, desired))
    assert after(once, routes.plan(once, desired)) == desired


@given(desired=one_per_destination)
def test_the_desired_routes_need_no_plan(desired) -> None:
    assert routes.plan(desired, desired).size == 0


def after(actual: frozenset[Route], plan: routes.Plan) -> frozenset[Route]:
    """What the kernel has after a plan; replacing takes the place of one route to the destination only."""
    have = set(actual)
    for new in plan.replace:
        have.discard(next(old for old in sorted(have, key=str) if old.destination == new.destination))
        have.add(new)
    return frozenset((have - set(plan.delete)) | set(plan.add))
