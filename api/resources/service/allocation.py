"""What a Service is given: a ClusterIP of the service CIDR, node ports, and a claim on each so that nobody else is.

Where the search for a free value starts is derived from the Service's name. Services created at the same moment then
look at different places and seldom collide, and a Service that is deleted and created again finds its old values.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from api.model import Admission, Claim, Claims, Object
from api.resources import fields
from api.resources.service import needs
from ipam import allocator
from ipam.address import Address
from ipam.pool import AddressInUse, NotInPool, Pool, PoolError
from kube import resources
from kube.errors import FieldError, Invalid

CLUSTER_IPS = "clusterips"
NODE_PORTS = "nodeports"
FIRST_NODE_PORT, LAST_NODE_PORT = 30000, 32767

KUBERNETES = ("default", "kubernetes")
"""The Service of the API server itself: the service CIDR's first address is kept for it."""


class _Texts:
    """Claimed addresses, kept as the text they are claimed as: a lookup costs no parsing of all the others."""

    def __init__(self, values: frozenset[str]) -> None:
        self._values = values

    def __contains__(self, address: object) -> bool:
        return str(address) in self._values


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocator:
    pool: Pool
    first: Address

    @classmethod
    def of(cls, service_cidr: IPv4Network) -> "Allocator":
        whole = Pool.of(service_cidr)
        return cls(pool=Pool.of(service_cidr, excluded=[whole.first]), first=whole.first)

    def admit(self, service: Object, old: Object | None, claims: Claims) -> Admission:
        """The Service with everything it needs; `service` is settled and valid."""
        spec, before = dict(service["spec"]), (old or {}).get("spec", {})
        service = service | {"spec": spec}
        held = set()
        if needs.cluster_ip(spec) and not needs.is_headless(spec):
            spec["clusterIP"] = self._cluster_ip(service, before, claims)
            spec["clusterIPs"] = [spec["clusterIP"]]
            held.add(Claim(pool=CLUSTER_IPS, value=spec["clusterIP"]))
        elif needs.cluster_ip(spec):
            spec["clusterIPs"] = [needs.HEADLESS]
        numbers = _NodePorts(service, before, claims)
        numbers.assign()
        held |= {Claim(pool=NODE_PORTS, value=str(number)) for number in numbers.held}
        return Admission(obj=service, claims=frozenset(held))

    def _cluster_ip(self, service: Object, before: Object, claims: Claims) -> str:
        wanted = service["spec"].get("clusterIP", "")
        if wanted and wanted == before.get("clusterIP"):
            return str(wanted)
        taken = _Texts(claims.taken(CLUSTER_IPS))
        if not wanted and _identity(service) != KUBERNETES:
            return self._next(service, taken)
        return self._reserve(service, wanted or str(self.first), taken)

    def _reserve(self, service: Object, wanted: str, taken: _Texts) -> str:
        try:
            address = IPv4Address(wanted)
            if address == self.first and _identity(service) == KUBERNETES:
                return wanted
            return str(allocator.reserve(self.pool, taken, address))
        except (AddressInUse, NotInPool, AddressValueError) as error:
            raise _refused(service, fields.invalid("spec.clusterIPs", [wanted], self._why(wanted, error))) from None

    def _why(self, wanted: str, error: Exception) -> str:
        if isinstance(error, AddressInUse):
            why = "provided IP is already allocated"
        elif wanted == str(self.first):
            why = f"it is kept for the Service {'/'.join(KUBERNETES)}"
        else:
            why = f"the provided IP is not in the valid range. The range of valid IPs is {self.pool.network}"
        return f"failed to allocate IP {wanted}: {why}"

    def _next(self, service: Object, taken: _Texts) -> str:
        low, count = int(self.pool.first), int(self.pool.last) - int(self.pool.first) + 1
        # As in Kubernetes (KEP-3070), the range's start is given out last: people pick fixed addresses there.
        fixed = 0 if count < 16 else min(max(16, count // 16), 256)
        after = IPv4Address(low + fixed + _place(service) % (count - fixed))
        try:
            return str(allocator.assign(self.pool, taken, after))
        except PoolError:
            raise _refused(service, fields.invalid("spec.clusterIP", "", self._exhausted())) from None

    def _exhausted(self) -> str:
        return (
            f"the service CIDR {self.pool.network} is exhausted: all of its {self.pool.size} addresses belong to other"
            " Services; delete one, or start podwire-api with a larger --service-cidr"
        )


class _NodePorts:
    """The node ports of one Service while they are being given: one number may serve several protocols."""

    def __init__(self, service: Object, before: Object, claims: Claims) -> None:
        self._service = service
        self._spec = service["spec"]
        self._taken: Callable[[], frozenset[str]] = lambda: claims.taken(NODE_PORTS)
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
        start = _place(self._service)
        for step in range(count):
            number = FIRST_NODE_PORT + (start + step) % count
            if str(number) not in taken and number not in self.held:
                return number
        why = f"all {count} node ports {FIRST_NODE_PORT}-{LAST_NODE_PORT} belong to other Services; delete one"
        raise _refused(self._service, fields.invalid(path, 0, why))


def _numbers(spec: Object) -> frozenset[int]:
    numbers = {port.get("nodePort", 0) for port in spec.get("ports", [])} | {spec.get("healthCheckNodePort", 0)}
    return frozenset(numbers - {0})


def _identity(service: Object) -> tuple[str, str]:
    metadata = service["metadata"]
    return metadata.get("namespace", ""), metadata.get("name", "")


def _place(service: Object) -> int:
    return zlib.crc32("/".join(_identity(service)).encode())


def _refused(service: Object, error: FieldError) -> Invalid:
    return Invalid.of(resources.SERVICES, service["metadata"].get("name", ""), [error])
