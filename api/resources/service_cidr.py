"""ServiceCIDRs: the ranges that cluster IPs come from.

The object `kubernetes` is the server's own --service-cidr. Others can be added and removed; one that is being removed
gives no address any more, and stays until no Service has one of its addresses: its finalizer is the controller's.
A ServiceCIDR that gives addresses holds a claim, which whoever takes an address of it relies on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network

from api.model import Admission, Claim, Claims, Column, Object
from api.resources import cells, fields, metadata, names, shapes
from api.resources.conform import conform
from ipam.address import Network
from kube import resources
from kube.errors import FieldError, Forbidden
from kube.resources import ResourceType

POOL = "servicecidrs"
DEFAULT = "kubernetes"
FINALIZER = "networking.k8s.io/service-cidr-finalizer"
_MOST = 2  # one of each family


def is_going(service_cidr: Object) -> bool:
    return "deletionTimestamp" in service_cidr["metadata"]


def networks(service_cidr: Object) -> tuple[Network, ...]:
    return tuple(map(ip_network, service_cidr["spec"]["cidrs"]))


def claims_of(texts: Iterable[str]) -> list[tuple[Claim, Network]]:
    """What `claims.taken(POOL)` says, read: each range that gives addresses, with its claim, in a stable order."""
    return [(Claim(pool=POOL, value=text), ip_network(text.partition("/")[2])) for text in sorted(texts)]


def _claim(name: str, cidr: str) -> Claim:
    return Claim(pool=POOL, value=f"{name}/{cidr}")


def _cidrs(service_cidr: Object, _now: datetime) -> str:
    return ",".join(service_cidr.get("spec", {}).get("cidrs", []))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCIDRStrategy:
    service_cidrs: tuple[Network, ...]
    resource: ResourceType = resources.SERVICE_CIDRS
    short_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (cells.NAME, Column("CIDRs", "string", 0, _cidrs), cells.AGE)
    subresources: tuple[str, ...] = ("status",)

    def default(self, obj: Object) -> Object:
        service_cidr = conform(obj, self.resource, shapes.ServiceCIDR)
        is_default = service_cidr.setdefault("metadata", {}).get("name") == DEFAULT
        own = [str(network) for network in self.service_cidrs] if is_default else []
        service_cidr.setdefault("spec", {}).setdefault("cidrs", own)
        return service_cidr

    def validate(self, obj: Object, old: Object | None) -> list[FieldError]:
        cidrs = obj["spec"]["cidrs"]
        errors = metadata.errors(obj, names.dns_subdomain)
        if obj["metadata"].get("name") == DEFAULT:
            return errors + self._default_errors(cidrs)
        if old is not None and cidrs != old["spec"]["cidrs"]:
            return [*errors, fields.invalid("spec.cidrs", cidrs, fields.IMMUTABLE)]
        return errors + _cidr_errors(cidrs)

    def _default_errors(self, cidrs: Sequence[str]) -> list[FieldError]:
        if cidrs == [str(network) for network in self.service_cidrs]:
            return []
        why = f"{DEFAULT} is what podwire-api's --service-cidr says; create a ServiceCIDR of another name"
        return [fields.invalid("spec.cidrs", cidrs, why)]

    def admit(self, obj: Object, old: Object | None, claims: Claims) -> Admission:
        del claims
        about = obj["metadata"]
        if old is None:
            finalizers = [*dict.fromkeys([*about.get("finalizers", []), FINALIZER])]
            obj = obj | {"metadata": about | {"finalizers": finalizers}, "status": {}}
        held = () if is_going(obj) else obj["spec"]["cidrs"]
        return Admission(obj=obj, claims=frozenset(_claim(about["name"], cidr) for cidr in held))

    def selectable_fields(self, obj: Object) -> Mapping[str, str]:
        del obj
        return {}

    def graceful_seconds(self, obj: Object, requested: int | None) -> int:
        del requested
        if obj["metadata"]["name"] == DEFAULT:
            raise Forbidden(f'servicecidrs "{DEFAULT}" is forbidden: it is what podwire-api\'s --service-cidr says')
        return 0


def _cidr_errors(cidrs: Sequence[str]) -> list[FieldError]:
    if not cidrs:
        return [fields.required("spec.cidrs", "at least one CIDR required")]
    if len(cidrs) > _MOST:
        return [fields.invalid("spec.cidrs", list(cidrs), "may only hold up to 2 values")]
    errors = [error for index, text in enumerate(cidrs) for error in _cidr(f"spec.cidrs[{index}]", text)]
    if not errors and len({ip_network(text).version for text in cidrs}) < len(cidrs):
        why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96"
        errors.append(fields.invalid("spec.cidrs", list(cidrs), why))
    return errors


def _cidr(path: str, text: str) -> list[FieldError]:
    network, errors = fields.cidr(path, text)
    if network is None:
        return errors
    if str(network) != text:
        return [fields.invalid(path, text, f"must be in canonical form ({network})")]
    return []
