"""The `ipam` section of a configuration: which addresses may be given, and the routes that come with them.

Host-local's semantics and spelling, so a configuration can change the plugin by changing `type`: the outer list gives one
address each, the inner list holds alternatives. `runtimeConfig.ipRanges` stand before those of the section. Every refusal
names the key, its value and what to write instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from cni import wire_types
from cni.spec import invalid, parse_version
from dataplane.netlink.objects import PLAIN, RouteOptions, Scope
from ipam.address import Address, Network
from ipam.pool import Pool, PoolTooSmall, first_overlap, usable

COOLDOWN_MAX = 3600.0
_DEFAULTS: Mapping[int, str] = {4: "0.0.0.0/0", 6: "::/0"}
_EXAMPLES: Mapping[int | None, str] = {None: "IP", 4: "IPv4", 6: "IPv6"}
_ONE_PER_FAMILY_BEFORE = (0, 3, 0)  # the result has one place for each family

RangeLists = Sequence[Sequence[wire_types.Range]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRoute:
    """A route for the pod; without a gateway of its own it leads to its family's pool's."""

    destination: Network
    gateway: Address | None
    scope: Scope | None = None
    options: RouteOptions = PLAIN

    @classmethod
    def parse(cls, route: wire_types.Route) -> "PodRoute":
        """Raises ValueError."""
        return cls(
            destination=ip_network(route.dst),
            gateway=ip_address(route.gw) if route.gw else None,
            scope=None if route.scope is None else Scope(route.scope),
            options=RouteOptions(mtu=route.mtu, advmss=route.advmss, priority=route.priority, table=route.table),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressing:
    """`ranges`: of each list of pools a pod gets one address. `cooldown`: seconds until a released one is given again."""

    ranges: tuple[tuple[Pool, ...], ...]
    routes: tuple[PodRoute, ...]
    cooldown: float

    @property
    def pools(self) -> tuple[Pool, ...]:
        return tuple(pool for pools in self.ranges for pool in pools)


def parse_addressing(ipam: wire_types.Ipam, given: RangeLists, *, version: str, is_default_gateway: bool) -> Addressing:
    """`given` are the runtime's own ranges for this call. Raises CniError 7."""
    ranges = _ranges(ipam, given)
    families: set[int] = {pool.network.version for pools in ranges for pool in pools}
    if parse_version(version) < _ONE_PER_FAMILY_BEFORE and len(ranges) > len(families):
        raise invalid("ipam.ranges", len(ranges), f"results of version {version} hold one address of each family")
    if not 0 <= ipam.cooldown_seconds <= COOLDOWN_MAX:
        raise invalid("ipam.cooldownSeconds", ipam.cooldown_seconds, f"must be 0 to {COOLDOWN_MAX:g}")
    stated = [_route(f"ipam.routes[{index}]", route, families) for index, route in enumerate(ipam.routes)]
    return Addressing(
        ranges=ranges,
        routes=with_default_routes(stated, families if is_default_gateway else set()),
        cooldown=ipam.cooldown_seconds,
    )


def _ranges(ipam: wire_types.Ipam, given: RangeLists) -> tuple[tuple[Pool, ...], ...]:
    inline = [[single]] if (single := ipam.inline) else []
    named = [
        *(("runtimeConfig.ipRanges", index, wires) for index, wires in enumerate(given)),
        *(("ipam", index, wires) for index, wires in enumerate(inline)),
        *(("ipam.ranges", index, wires) for index, wires in enumerate(ipam.ranges)),
    ]
    if not named:
        raise invalid("ipam.ranges", [], 'must hold a list of ranges such as [{"subnet": "10.244.1.0/24"}]')
    lists = [_list("ipam" if key == "ipam" else f"{key}[{index}]", wires) for key, index, wires in named]
    _refuse_overlap([found for fields in lists for found in fields])
    return tuple(tuple(pool for _, pool in fields) for fields in lists)


def _list(field: str, wires: Sequence[wire_types.Range]) -> list[tuple[str, Pool]]:
    if not wires:
        raise invalid(field, [], 'must hold at least one range such as {"subnet": "10.244.1.0/24"}')
    names = [field if field == "ipam" else f"{field}[{index}]" for index in range(len(wires))]
    pools = [(name, _pool(name, wire)) for name, wire in zip(names, wires, strict=True)]
    if len({pool.network.version for _, pool in pools}) > 1:
        networks = ", ".join(str(pool.network) for _, pool in pools)
        raise invalid(field, networks, "alternatives are of one family; write one list for IPv4 and one for IPv6")
    return pools


def _pool(field: str, wire: wire_types.Range) -> Pool:
    subnet = parse_network(f"{field}.subnet", wire.subnet)
    if subnet.max_prefixlen - subnet.prefixlen < 2:
        smallest = subnet.max_prefixlen - 2
        raise invalid(f"{field}.subnet", wire.subnet, f"too small: a gateway and one pod need at least a /{smallest}")
    bounds = {
        name: _inside(f"{field}.{name}", text, subnet)
        for name, text in (("rangeStart", wire.range_start), ("rangeEnd", wire.range_end), ("gateway", wire.gateway))
    }
    try:
        return Pool.of(
            subnet,
            first=bounds["rangeStart"],
            last=bounds["rangeEnd"],
            gateway=bounds["gateway"] or usable(subnet)[0],
            excluded=[_excluded(f"{field}.exclude[{n}]", text, subnet) for n, text in enumerate(wire.exclude)],
        )
    except PoolTooSmall as error:
        raise invalid(f"{field}.rangeStart", f"{wire.range_start}-{wire.range_end}", str(error)) from error


def _inside(field: str, text: str | None, subnet: Network) -> Address | None:
    if text is None:
        return None
    address = parse_address(field, text, subnet.version)
    lowest, highest = usable(subnet)
    if not int(lowest) <= int(address) <= int(highest):
        raise invalid(field, text, f"must be a host address of {subnet}: {lowest} to {highest}")
    return address


def _excluded(field: str, text: str, subnet: Network) -> Network:
    part = parse_network(field, text, subnet.version)
    if int(part.network_address) < int(subnet.network_address) or int(part[-1]) > int(subnet[-1]):
        raise invalid(field, text, f"must be an address or a subnet inside {subnet}")
    return part


def _refuse_overlap(named: Sequence[tuple[str, Pool]]) -> None:
    if overlap := first_overlap([pool for _, pool in named]):
        (field, pool), (other, earlier) = (named[index] for index in overlap)
        stretch = f"{earlier.first} to {earlier.last} of {earlier.network}"
        raise invalid(field, f"{pool.first}-{pool.last}", f"overlaps {stretch} in {other}")


def with_default_routes(routes: Sequence[PodRoute], families: set[int]) -> tuple[PodRoute, ...]:
    """The routes, and for each of the families the one to everywhere unless they have it."""
    present = {route.destination for route in routes}
    defaults = [ip_network(_DEFAULTS[version]) for version in sorted(families)]
    return (*routes, *(PodRoute(destination=one, gateway=None) for one in defaults if one not in present))


def _route(field: str, route: wire_types.Route, families: set[int]) -> PodRoute:
    destination = parse_network(f"{field}.dst", route.dst)
    if destination.version not in families:
        family = _EXAMPLES[destination.version]
        raise invalid(
            f"{field}.dst", route.dst, f"a pod of this network has no {family} address; add a range or remove it"
        )
    gateway = parse_address(f"{field}.gw", route.gw, destination.version) if route.gw else None
    if route.scope not in {None, *Scope}:
        listed = ", ".join(f"{scope.value} ({scope.name.lower()})" for scope in Scope)
        raise invalid(f"{field}.scope", route.scope, f"must be one of {listed}")
    return replace(PodRoute.parse(route), destination=destination, gateway=gateway)


def parse_network(field: str, text: str, version: int | None = None) -> Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise invalid(field, text, f"{error}; write a network such as 10.244.1.0/24 or fd00:244::/64") from error
    if version not in {None, network.version}:
        raise invalid(field, text, f"must be {_EXAMPLES[version]}, as its subnet is")
    return network


def parse_address(field: str, text: str, version: int | None = None) -> Address:
    try:
        address = ip_address(text)
    except ValueError as error:
        raise invalid(field, text, f"{error}; write an address such as 10.244.1.1 or fd00:244::1") from error
    if version not in {None, address.version}:
        raise invalid(field, text, f"must be {_EXAMPLES[version]}")
    return address
