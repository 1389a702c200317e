"""A Service's node ports: those it asks for, or free ones of the range that every node keeps for them."""

from collections.abc import Callable

from api.model import Claims, Object
from api.resources import fields
from api.resources.service import identity, needs
from kube import resources
from kube.errors import FieldError, Invalid

POOL = "nodeports"
FIRST_NODE_PORT, LAST_NODE_PORT = 30000, 32767


class NodePorts:
    """The node ports of one Service while they are being given: one number may serve several protocols."""

    def __init__(self, service: Object, before: Object, claims: Claims) -> None:
        self._service = service
        self._spec = service["spec"]
        self._taken: Callable[[], frozenset[str]] = lambda: claims.taken(POOL)
        self._own = _numbers(before)
        self.held: set[int] = set()

    def assign(self) -> None:
        """Give every port its number, and the health check its own, in the Service itself."""
        if needs.may_have_node_ports(self._spec):
            self._spec["ports"] = self._ports()
        if needs.health_check_node_port(self._spec):
            wanted = self._spec.get("healthCheckNodePort", 0)
            self._spec["healthCheckNodePort"] = self._number("spec.healthCheckNodePort", wanted)

    def _ports(self) -> list[Object]:
        ports: list[Object] = []
        shared: dict[int, int] = {}  # port -> the node port that another protocol of it already has
        for index, port in enumerate(self._spec.get("ports", [])):
            wanted = port.get("nodePort", 0)
            if wanted in self.held:
                number = wanted
            elif wanted:
                number = self._number(f"spec.ports[{index}].nodePort", wanted)
            elif not needs.node_ports(self._spec):
                ports.append(port)
                continue
            else:
                number = shared.get(port["port"]) or self._number(f"spec.ports[{index}].nodePort", 0)
            shared[port["port"]] = number
            ports.append(port | {"nodePort": number})
        return ports

    def _number(self, path: str, wanted: int) -> int:
        number = wanted or self._next(path)
        self._check(path, number)
        self.held.add(number)
        return number

    def _check(self, path: str, number: int) -> None:
        if number in self._own:
            return
        valid = f"{FIRST_NODE_PORT}-{LAST_NODE_PORT}"
        if not FIRST_NODE_PORT <= number <= LAST_NODE_PORT:
            why = f"provided port is not in the valid range. The range of valid ports is {valid}"
            raise _refused(self._service, fields.invalid(path, number, why))
        if str(number) in self._taken():
            raise _refused(self._service, fields.invalid(path, number, "provided port is already allocated"))

    def _next(self, path: str) -> int:
        taken, count = self._taken(), LAST_NODE_PORT - FIRST_NODE_PORT + 1
        start = identity.place(self._service)
        for step in range(count):
            number = FIRST_NODE_PORT + (start + step) % count
            if str(number) not in taken and number not in self.held:
                return number
        why = f"all {count} node ports {FIRST_NODE_PORT}-{LAST_NODE_PORT} belong to other Services; delete one"
        raise _refused(self._service, fields.invalid(path, 0, why))


def _numbers(spec: Object) -> frozenset[int]:
    numbers = {port.get("nodePort", 0) for port in spec.get("ports", [])} | {spec.get("healthCheckNodePort", 0)}
    return frozenset(numbers - {0})


def _refused(service: Object, error: FieldError) -> Invalid:
    return Invalid.of(resources.SERVICES, service["metadata"].get("name", ""), [error])
