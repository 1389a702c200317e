"""Services and their endpoints as tests state them, and a table in memory that takes the proxy's text.

Address plan: cluster IPs 10.96.0.0/24, the tests' own endpoints in 10.244.0.0/16, nodes called node1, node2, …
"""

import json
import re
from collections.abc import Callable, Iterable

from dataplane.nft.expressions import Other
from dataplane.nft.fake import FakeNft, SetShape
from dataplane.nft.interface import LoadFailed
from dataplane.nft.objects import AddRule, Chain, Family, FlushChain, Rule
from kube import objects
from proxy import layout
from proxy.model import ServiceName
from proxy.resets import TABLE as RESETS
from proxy.ruleset import Ruleset
from proxy.writer import STAND_IN

RULESET = Ruleset(Family.IP)


def service(
    name: str = "web",
    cluster_ip: str = "10.96.0.10",
    *,
    ports: Iterable[tuple] = ((80, "http"),),
    affinity: int | None = None,
    labels: dict[str, str] | None = None,
    on_removal: str = "",
    ingress: Iterable[objects.LoadBalancerIngress | str] = (),
    **spec: object,
) -> objects.Service:
    """A Service of namespace default; `ports` are (port, name[, protocol[, node port]])."""
    if affinity is not None:
        client_ip = objects.ClientIPConfig(timeout_seconds=affinity)
        spec["session_affinity"] = "ClientIP"
        spec["session_affinity_config"] = objects.SessionAffinityConfig(client_ip=client_ip)
    return objects.Service(
        metadata=objects.ServiceMeta(
            name=name,
            namespace="default",
            labels=labels or {},
            annotations=objects.ServiceAnnotations(on_endpoint_removal=on_removal),
        ),
        spec=objects.ServiceSpec(
            cluster_ip=cluster_ip,
            ports=tuple(
                objects.ServicePort(
                    port=port, name=port_name, protocol=(more or ["TCP"])[0], node_port=more[1] if more[1:] else 0
                )
                for port, port_name, *more in ports
            ),
            **spec,
        ),
        status=objects.ServiceStatus(load_balancer=objects.LoadBalancerStatus(ingress=tuple(map(_ingress, ingress)))),
    )


def _ingress(given: objects.LoadBalancerIngress | str) -> objects.LoadBalancerIngress:
    return objects.LoadBalancerIngress(ip=given) if isinstance(given, str) else given


def endpoint(address: str, *, node: str | None = "node1", **conditions: bool) -> objects.Endpoint:
    return objects.Endpoint(addresses=(address,), conditions=objects.EndpointConditions(**conditions), node_name=node)


def endpoint_slice(
    owner: str,
    endpoints: Iterable[objects.Endpoint | str],
    *,
    name: str = "",
    ports: Iterable[tuple] = ((8080, "http"),),
    labels: dict[str, str] | None = None,
    weights: dict[str, int] | None = None,
) -> objects.EndpointSlice:
    """A slice of namespace default; `ports` are (port, name[, protocol])."""
    annotations = {} if weights is None else {"podwire.dev/weights": json.dumps(weights)}
    owned = {"kubernetes.io/service-name": owner} if labels is None else labels
    entries = tuple(endpoint(given) if isinstance(given, str) else given for given in endpoints)
    is_ipv6 = bool(entries) and all(":" in "".join(entry.addresses[:1]) for entry in entries)
    return objects.EndpointSlice(
        metadata=objects.AnnotatedMeta(
            name=name or f"{owner}-1", namespace="default", labels=owned, annotations=annotations
        ),
        address_type="IPv6" if is_ipv6 else "IPv4",
        endpoints=entries,
        ports=tuple(
            objects.EndpointPort(port=port, name=port_name, protocol=(protocol or ["TCP"])[0])
            for port, port_name, *protocol in ports
        ),
    )


def named(name: str) -> ServiceName:
    return ServiceName("default", name)


class World:
    """What the API says, changed at will: a `planning.Source`."""

    def __init__(self) -> None:
        self.services: dict[ServiceName, objects.Service] = {}
        self.endpoint_slices: dict[ServiceName, tuple[objects.EndpointSlice, ...]] = {}

    def put(self, given: objects.Service, *slices: objects.EndpointSlice) -> ServiceName:
        name = ServiceName(given.metadata.namespace, given.metadata.name)
        self.services[name] = given
        self.endpoint_slices[name] = slices
        return name

    def remove(self, name: ServiceName) -> ServiceName:
        self.services.pop(name, None)
        self.endpoint_slices.pop(name, None)
        return name

    def names(self) -> Iterable[ServiceName]:
        return list(self.services)

    def service(self, name: ServiceName) -> objects.Service | None:
        return self.services.get(name)

    def slices(self, name: ServiceName) -> Iterable[objects.EndpointSlice]:
        return self.endpoint_slices.get(name, ())


_SHAPES = (
    SetShape(layout.SERVICES, 12, verdicts=True),
    SetShape(layout.SINGLE_ENDPOINT, 12, 4),
    SetShape(layout.ENDPOINTS, 4, 8),
    SetShape(layout.RING, 4, 4),
    SetShape(layout.AFFINITY, 8, 4, timeouts=True),
    SetShape(layout.CLUSTER_IPS, 4),
    SetShape(layout.OUTSIDE, 12, verdicts=True),
    SetShape(layout.NODE_PORTS, 8, verdicts=True),
    SetShape(layout.SERVED_NODE_PORTS, 8),
    SetShape(layout.OUTSIDE_NODE_PORTS, 8, verdicts=True),
    SetShape(layout.SERVED_EXTERNALS, 12),
    SetShape(layout.NO_ENDPOINTS, 12),
    SetShape(layout.NO_ENDPOINTS_NODE_PORTS, 8),
    SetShape(layout.FIREWALLED, 12),
    SetShape(layout.ALLOWED_SOURCES, 16),
    SetShape(layout.KEEP_SOURCE, 4),
    *(SetShape(name, 4) for name in layout.KEPT.values()),
    SetShape(layout.HAIRPIN, 8),
)
_CHAIN = re.compile(r"^\tchain (\S+) \{\n(.*?)^\t\}$", re.MULTILINE | re.DOTALL)
_BASE_CHAINS = (
    "prerouting",
    "output",
    "postrouting",
    "unserved-prerouting",
    "unserved-output",
    "stray-prerouting",
    *layout.LOCALHOST_CHAINS,
)
_NODE = re.compile(r'comment "(node [0-9a-f]+)"')
_STATIC = (Other("static", b""),)


class FakeTable(FakeNft):
    """Brings into being the chains that the proxy's text declares, with as many rules, and no Services from text."""

    def __init__(self) -> None:
        super().__init__(RULESET.table, sets=_SHAPES, base_chains=_BASE_CHAINS)
        self._layout = ""
        self.while_settling: Callable[[], object] = lambda: None
        self.seen_settling: list[object] = []

    def settle(self) -> None:
        self.seen_settling.append(self.while_settling())

    def load(self, ruleset: str) -> None:
        if RESETS in ruleset:
            self.loaded.append(ruleset)
            return
        if STAND_IN in ruleset:
            raise LoadFailed("load nft text", detail="nothing stands in for this table")
        if "add element" in ruleset:
            raise LoadFailed("load nft text", detail="this table takes no elements as text")
        if "delete table" in ruleset:
            self.delete_table()
        if found := re.search(r'comment "(layout [^"]*)"', ruleset):
            self._layout = found[1]
        declared = {name: _rules(body) for name, body in _CHAIN.findall(ruleset)}
        self._skeleton_chains = tuple(declared)
        super().load(ruleset)
        for chain, count in declared.items():
            comment = found[1] if chain == layout.FROM_NETWORK and (found := _NODE.search(ruleset)) else ""
            self.commit([FlushChain(chain), *[AddRule(Rule(chain, _STATIC, comment))] * count])
            del self.committed[-1]

    def chains(self) -> tuple[Chain, ...]:
        return tuple(
            Chain(chain.name, self._layout) if chain.name == layout.DISPATCH else chain for chain in super().chains()
        )

    @property
    def operations(self) -> int:
        return sum(len(operations) for operations in self.committed)


def _rules(body: str) -> int:
    lines = (line.strip() for line in body.splitlines())
    return sum(bool(line) and not line.startswith(("type ", "comment ", "#")) for line in lines)
