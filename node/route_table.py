"""Keeps the kernel's routes of our protocol equal to what the cluster asks for.

One route that the kernel refuses stops no other. A destination that another program has a route to stays that program's:
the operator is told, and the route is added once the other one is gone.
"""

from collections.abc import Callable, Iterable, Sequence

import structlog

from dataplane.errors import AlreadyExists, DataplaneError, NotFound
from dataplane.netlink.interface import Netlink
from dataplane.netlink.objects import Address, Protocol, Route
from node import routes
from node.members import Cluster, Problem
from node.problems import ProblemLog
from node.routes import Plan

log = structlog.get_logger(__name__)


class RoutesRefused(Exception):
    """The kernel refused some of the routes; all others are in place."""

    def __init__(self, errors: Sequence[DataplaneError]) -> None:
        super().__init__(errors)
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "; ".join(map(str, self.errors))


class RouteTable:
    """`devices` are the links that routes have gone through: what happens to these is worth a look."""

    def __init__(self, netlink: Netlink, own_name: str, problems: ProblemLog) -> None:
        self._netlink = netlink
        self._own_name = own_name
        self._problems = problems
        self.devices: frozenset[int] = frozenset()

    def sync(self, cluster: Cluster) -> None:
        """Bring the routes up to date. Raises RoutesRefused after everything else is done."""
        ways = self._ways(routes.gateways(cluster, self._own_name))
        self._remember_devices(ways.values())
        desired = routes.render(cluster, self._own_name, ways)
        plan = routes.plan(self._netlink.routes(Protocol.PODWIRE), desired.routes)
        self._problems.report("routes", desired.problems | self._apply(plan))

    def _ways(self, gateways: Iterable[Address]) -> dict[Address, Route]:
        return {gateway: way for gateway in gateways if (way := self._way(gateway)) is not None}

    def _way(self, gateway: Address) -> Route | None:
        try:
            return self._netlink.route_to(gateway)
        except NotFound:
            return None

    def _remember_devices(self, ways: Iterable[Route]) -> None:
        links = (self._netlink.link(device) for device in {way.device for way in ways if way.device})
        self.devices |= {link.index for link in links if link is not None}

    def _apply(self, plan: Plan) -> frozenset[Problem]:
        """Make the changes in the order that needs no destination twice; return who was in the way."""
        refused = {
            **_attempts(self._netlink.replace_route, plan.replace),
            **_attempts(self._netlink.delete_route, plan.delete),
            **_attempts(self._netlink.add_route, plan.add),
        }
        if len(refused) < plan.size:
            log.info(
                "routes changed", **{verb: " | ".join(map(str, found)) for verb, found in plan.steps.items() if found}
            )
        occupied = [route for route, error in refused.items() if isinstance(error, AlreadyExists)]
        others = [error for error in refused.values() if not isinstance(error, AlreadyExists)]
        if others:
            raise RoutesRefused(others)
        return frozenset(self._occupied(route) for route in occupied)

    def _occupied(self, route: Route) -> Problem:
        text = (
            f"route {route} is not added: another program has a route to {route.destination};"
            f" see `ip route show {route.destination}` and remove it there"
        )
        return Problem(node=self._own_name, text=text)


def _attempts(change: Callable[[Route], None], wanted: Iterable[Route]) -> dict[Route, DataplaneError]:
    refused = {}
    for route in wanted:
        try:
            change(route)
        except DataplaneError as error:
            refused[route] = error
    return refused
