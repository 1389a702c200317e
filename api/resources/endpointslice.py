"""EndpointSlices: the addresses behind a Service, in pieces small enough to send when one of them changes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from api.model import Admission, Claims, Column, Object
from api.resources import cells, fields, metadata, names, shapes
from api.resources.conform import conform
from kube import resources
from kube.errors import FieldError
from kube.resources import ResourceType

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_MOST_ENDPOINTS, _MOST_ADDRESSES, _MOST_PORTS = 1000, 100, 100
_SHOWN = 3


def _shortened(items: list[str]) -> str:
    if len(items) > _SHOWN:
        return f"{','.join(items[:_SHOWN])} + {len(items) - _SHOWN} more..."
    return ",".join(items) or cells.UNSET


def _ports(piece: Object, _now: datetime) -> str:
    return _shortened([str(port.get("port") or port.get("name") or "*") for port in piece.get("ports", [])])


def _endpoints(piece: Object, _now: datetime) -> str:
    endpoints = piece.get("endpoints", [])
    return _shortened([address for endpoint in endpoints for address in endpoint.get("addresses", [])])


COLUMNS = (
    cells.NAME,
    Column("AddressType", "string", 0, lambda piece, _now: piece.get("addressType", "")),
    Column("Ports", "string", 0, _ports),
    Column("Endpoints", "string", 0, _endpoints),
    cells.AGE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSliceStrategy:
    resource: ResourceType = resources.ENDPOINT_SLICES
    short_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = COLUMNS
    subresources: tuple[str, ...] = ()

    def default(self, obj: Object) -> Object:
        piece = conform(obj, self.resource, shapes.EndpointSlice)
        piece.setdefault("metadata", {})
        piece.setdefault("endpoints", [])
        for port in piece.setdefault("ports", []):
            port.setdefault("name", "")
            port["protocol"] = port.get("protocol") or "TCP"
        for endpoint in piece["endpoints"]:
            endpoint.setdefault("conditions", {})
        return piece

    def validate(self, obj: Object, old: Object | None) -> list[FieldError]:
        kind = obj.get("addressType", "")
        errors = metadata.errors(obj, names.dns_subdomain)
        errors += fields.one_of("addressType", kind, _ADDRESS_TYPES)
        if old is not None and kind != old.get("addressType"):
            errors.append(fields.invalid("addressType", kind, fields.IMMUTABLE))
        return errors + _port_errors(obj["ports"]) + _endpoint_errors(obj["endpoints"], kind)

    def admit(self, obj: Object, old: Object | None, claims: Claims) -> Admission:
        del old, claims
        return Admission(obj=obj, claims=frozenset())

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        del obj
        return {}

    def graceful_seconds(self, obj: Object, requested: int | None) -> int:
        del obj, requested
        return 0


def _port_errors(ports: list[Object]) -> list[FieldError]:
    if len(ports) > _MOST_PORTS:
        return [fields.too_many("ports", len(ports), _MOST_PORTS)]
    errors = fields.unique((f"ports[{index}].name", port["name"]) for index, port in enumerate(ports))
    for index, port in enumerate(ports):
        path = f"ports[{index}]"
        if port["name"]:
            errors += names.dns_label(f"{path}.name", port["name"])
        errors += fields.one_of(f"{path}.protocol", port["protocol"], fields.PROTOCOLS)
        if "port" in port:  # without, the slice means every port
            errors += fields.port(f"{path}.port", port["port"])
        if "appProtocol" in port:
            errors += names.qualified_name(f"{path}.appProtocol", port["appProtocol"])
    return errors


def _endpoint_errors(endpoints: list[Object], kind: str) -> list[FieldError]:
    if len(endpoints) > _MOST_ENDPOINTS:
        return [fields.too_many("endpoints", len(endpoints), _MOST_ENDPOINTS)]
    errors: list[FieldError] = []
    for index, endpoint in enumerate(endpoints):
        path, addresses = f"endpoints[{index}]", endpoint.get("addresses", [])
        if not addresses:
            errors.append(fields.required(f"{path}.addresses", "must contain at least 1 address"))
        elif len(addresses) > _MOST_ADDRESSES:
            errors.append(fields.too_many(f"{path}.addresses", len(addresses), _MOST_ADDRESSES))
        errors += _address_errors(f"{path}.addresses", addresses, kind)
        errors += _optional_names(path, endpoint)
    return errors


def _optional_names(path: str, endpoint: Object) -> Iterable[FieldError]:
    if "nodeName" in endpoint:
        yield from names.dns_subdomain(f"{path}.nodeName", endpoint["nodeName"])
    if "hostname" in endpoint:
        yield from names.dns_label(f"{path}.hostname", endpoint["hostname"])


def _address_errors(path: str, addresses: list[str], kind: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, address in enumerate(addresses):
        errors += _address(f"{path}[{index}]", address, kind)
    return errors


def _address(path: str, text: str, kind: str) -> list[FieldError]:
    if kind == "FQDN":
        return names.dns_subdomain(path, text)
    address, errors = fields.ip(path, text)
    families = {"IPv4": IPv4Address, "IPv6": IPv6Address}
    if address is not None and kind in families and not isinstance(address, families[kind]):
        return [fields.invalid(path, text, f"must be an {kind} address")]
    return errors or fields.unicast_ip(path, text)
