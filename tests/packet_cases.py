"""What becomes of packets to Services, case by case: one table for the tracer and for real packets in the kernel.

The node and its pods are those of tests/service_node.py, in either address family. The clients, as they are in IPv4:

    pod 10.244.1.2 and self 10.244.1.3, pods of this node; self is endpoint `a` · node 192.0.2.1, this node itself
    localhost, the same by 127.0.0.1 · far-pod 10.244.3.7, a pod of another node · node2 192.0.2.3, another node · outside 192.0.2.2, no part of the cluster

Endpoints: `a` 10.244.1.3 and `b` 10.244.1.4 on this node, `remote` 10.244.2.6 on another. A cell says who answers and which
source it sees, the client's own address or one of the node's: `a own`. Several, taken in turn, are joined by +. Otherwise it
is `refused`, `dropped` or `passed`: left alone, as if there were no Services.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network

from kube import objects
from tests.address_plan import IPV4, IPV6, AddressPlan
from tests.services import endpoint, endpoint_slice, service

EXTERNAL = ("external", "lb", "nodeport")
ALL = ("cluster", *EXTERNAL)
LEAVING = {"ready": False, "serving": True, "terminating": True}
UNREADY = {"ready": False, "serving": False, "terminating": False}
ENDING = {"ready": False, "serving": False, "terminating": True}


@dataclass(frozen=True)
class Row:
    """A client sends to an address and port."""

    client: str
    address: str
    port: int
    expected: frozenset[str]
    protocol: str = "TCP"

    @property
    def is_silent(self) -> bool:
        return bool(self.expected & {"dropped", "passed"})

    def __str__(self) -> str:
        return f"{self.client} → {self.address} {self.port}/{self.protocol}"


@dataclass(frozen=True)
class Scene:
    """What the API says, how the node is different from usual, and what packets meet then."""

    name: str
    given: tuple
    rows: tuple[Row, ...]
    here: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


class Place:
    """Who is where in one address family, and Services and rows made of it."""

    def __init__(self, plan: AddressPlan) -> None:
        self.plan = plan
        is_four = plan.family == "IPv4"
        self.node2, self.far_pod, self.far_gateway, self.far_cidr = (
            ("192.0.2.3", "10.244.3.7", "10.244.3.1", "10.244.3.0/24")
            if is_four
            else ("2001:db8::3", "fd00:10:244:3::7", "fd00:10:244:3::1", "fd00:10:244:3::/64")
        )
        self.other_family = "2001:db8:5::/48" if is_four else "198.51.100.0/24"
        self.clients = {
            "pod": plan.pods["client"],
            "self": plan.pods["a"],
            "node": plan.node,
            "localhost": plan.loopback,
            "far-pod": self.far_pod,
            "node2": self.node2,
            "outside": plan.outside,
        }
        self.endpoints = {"a": plan.pods["a"], "b": plan.pods["b"], "remote": plan.remote}
        self.cluster_ip, self.balancer, self.dns = plan.service_ip(10), plan.external(2), plan.service_ip(53)
        self.fronts = {
            "cluster": (self.cluster_ip, 80),
            "external": (plan.external(1), 80),
            "lb": (self.balancer, 80),
            "nodeport": (plan.node, 30080),
        }
        self.a, self.b, self.far = self.here("a"), self.here("b"), self.there()

    def here(self, name: str, **conditions: bool) -> objects.Endpoint:
        return endpoint(self.plan.pods[name], **conditions)

    def there(self, **conditions: bool) -> objects.Endpoint:
        return endpoint(self.plan.remote, node="node2", **conditions)

    def web(
        self, *endpoints: objects.Endpoint, internal: str = "Cluster", external: str = "Cluster", **spec: object
    ) -> tuple:
        """One Service with every way in."""
        made = service(
            "web",
            self.cluster_ip,
            type="LoadBalancer",
            ports=[(80, "http", "TCP", 30080)],
            external_ips=(self.plan.external(1),),
            ingress=[self.balancer],
            internal_traffic_policy=internal,
            external_traffic_policy=external,
            **spec,
        )
        return made, endpoint_slice("web", endpoints)

    def rows(self, clients: Iterable[str], fronts: Iterable[str], cell: str) -> tuple[Row, ...]:
        return tuple(Row(client, *self.fronts[front], expected(cell)) for client in clients for front in fronts)


def row(client: str, address: str, port: int, cell: str, protocol: str = "TCP") -> Row:
    return Row(client, address, port, expected(cell), protocol)


def expected(cell: str) -> frozenset[str]:
    return frozenset(part.strip().replace("-", " ") for part in cell.split("+"))


# --- the matrix of policies and source addresses
#
# Endpoints: a here, remote elsewhere. The last four columns: how the proxy is set up. `known`: it knows its own pods;
# `+all`: with --masquerade-all. Fronts `others`: externalIP, load balancer and node port alike.

MATRIX = """
internal external client  front   known              known+all          unknown            unknown+all

Cluster  Cluster  pod     cluster a-own+remote-own   a-node+remote-node a-own+remote-own   a-node+remote-node
Cluster  Cluster  self    cluster a-node+remote-own  a-node+remote-node a-node+remote-own  a-node+remote-node
Cluster  Cluster  node    cluster a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Cluster  Cluster  far-pod cluster a-node+remote-node a-node+remote-node a-own+remote-own   a-node+remote-node
Cluster  Cluster  node2   cluster a-node+remote-node a-node+remote-node a-own+remote-own   a-node+remote-node
Cluster  Cluster  outside cluster a-node+remote-node a-node+remote-node a-own+remote-own   a-node+remote-node
Cluster  Cluster  pod     others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Cluster  Cluster  self    others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Cluster  Cluster  node    others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Cluster  Cluster  far-pod others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Cluster  Cluster  node2   others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Cluster  Cluster  outside others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node

Cluster  Local    pod     cluster a-own+remote-own   a-node+remote-node a-own+remote-own   a-node+remote-node
Cluster  Local    self    cluster a-node+remote-own  a-node+remote-node a-node+remote-own  a-node+remote-node
Cluster  Local    node    cluster a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Cluster  Local    far-pod cluster a-node+remote-node a-node+remote-node a-own+remote-own   a-node+remote-node
Cluster  Local    node2   cluster a-node+remote-node a-node+remote-node a-own+remote-own   a-node+remote-node
Cluster  Local    outside cluster a-node+remote-node a-node+remote-node a-own+remote-own   a-node+remote-node
Cluster  Local    pod     others  a-own+remote-own   a-own+remote-own   a-own              a-own
Cluster  Local    self    others  a-node+remote-own  a-node+remote-own  a-node             a-node
Cluster  Local    node    others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Cluster  Local    far-pod others  a-own              a-own              a-own              a-own
Cluster  Local    node2   others  a-own              a-own              a-own              a-own
Cluster  Local    outside others  a-own              a-own              a-own              a-own

Local    Cluster  pod     cluster a-own              a-node             a-own              a-node
Local    Cluster  self    cluster a-node             a-node             a-node             a-node
Local    Cluster  node    cluster a-node             a-node             a-node             a-node
Local    Cluster  far-pod cluster a-node             a-node             a-own              a-node
Local    Cluster  node2   cluster a-node             a-node             a-own              a-node
Local    Cluster  outside cluster a-node             a-node             a-own              a-node
Local    Cluster  pod     others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Local    Cluster  self    others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Local    Cluster  node    others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Local    Cluster  far-pod others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Local    Cluster  node2   others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Local    Cluster  outside others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node

Local    Local    pod     cluster a-own              a-node             a-own              a-node
Local    Local    self    cluster a-node             a-node             a-node             a-node
Local    Local    node    cluster a-node             a-node             a-node             a-node
Local    Local    far-pod cluster a-node             a-node             a-own              a-node
Local    Local    node2   cluster a-node             a-node             a-own              a-node
Local    Local    outside cluster a-node             a-node             a-own              a-node
Local    Local    pod     others  a-own+remote-own   a-own+remote-own   a-own              a-own
Local    Local    self    others  a-node+remote-own  a-node+remote-own  a-node             a-node
Local    Local    node    others  a-node+remote-node a-node+remote-node a-node+remote-node a-node+remote-node
Local    Local    far-pod others  a-own              a-own              a-own              a-own
Local    Local    node2   others  a-own              a-own              a-own              a-own
Local    Local    outside others  a-own              a-own              a-own              a-own
"""
SETUPS = {
    "known": {},
    "known+all": {"masquerade_all": True},
    "unknown": {"pod_cidrs": ()},
    "unknown+all": {"pod_cidrs": (), "masquerade_all": True},
    # Pods known by their interface are known: the same column.
    "interface": {"pod_cidrs": (), "pod_interface": "podwire*"},
}


def matrix(at: Place) -> Iterator[Scene]:
    header, *lines = [line.split() for line in MATRIX.splitlines() if line.strip()]
    for setup, here in SETUPS.items():
        column = header.index("known" if setup == "interface" else setup)
        for internal, external in dict.fromkeys((line[0], line[1]) for line in lines):
            mine = [line for line in lines if (line[0], line[1]) == (internal, external)]
            given = (at.web(at.a, at.far, internal=internal, external=external),)
            yield Scene(
                f"{setup}-internal-{internal}-external-{external}", given, tuple(_cells(at, mine, column)), here
            )


def _cells(at: Place, lines: list[list[str]], column: int) -> Iterator[Row]:
    for line in lines:
        yield from at.rows([line[2]], ["cluster"] if line[3] == "cluster" else EXTERNAL, line[column])


# --- who serves


def _fallback(at: Place) -> Iterator[Scene]:
    leaving = at.here("a", **LEAVING)
    nobody = at.rows(["pod", "node", "outside"], ALL, "refused")
    yield Scene("nobody", (at.web(),), (*nobody, row("pod", at.cluster_ip, 81, "refused")))
    unready = at.web(at.here("a", **UNREADY), at.there(**ENDING))
    yield Scene("nobody is ready", (unready,), at.rows(["pod", "outside"], ALL, "refused"))
    yield Scene("one that leaves serves alone", (at.web(leaving),), at.rows(["node2"], ALL, "a-node"))
    yield Scene("one that leaves serves beside nobody", (at.web(leaving, at.b),), at.rows(["node2"], ALL, "b-node"))


def _local_fallback(at: Place) -> Iterator[Scene]:
    """Both policies Local."""
    local = {"internal": "Local", "external": "Local"}
    yield Scene(
        "local, nobody here",
        (at.web(at.far, **local),),
        (
            *at.rows(["pod", "outside"], ["cluster"], "dropped"),
            *at.rows(["node2"], ["external", "nodeport"], "dropped"),
            *at.rows(["pod"], EXTERNAL, "remote-own"),
            *at.rows(["node"], EXTERNAL, "remote-node"),
        ),
    )
    yield Scene(
        "local, one leaves here",
        (at.web(at.here("a", **LEAVING), at.far, **local),),
        (
            *at.rows(["pod"], ["cluster"], "a-own"),
            *at.rows(["node2", "outside"], EXTERNAL, "a-own"),
            *at.rows(["pod"], EXTERNAL, "remote-own"),
        ),
    )
    yield Scene(
        "local, one leaves elsewhere",
        (at.web(at.a, at.there(**LEAVING), **local),),
        (*at.rows(["pod"], ALL, "a-own"), *at.rows(["outside"], EXTERNAL, "a-own")),
    )


# --- ways in


def _ways_in(at: Place) -> Iterator[Scene]:
    unallocated, gateway = at.plan.service_ip(2313), at.plan.gateway
    yield Scene(
        "addresses nobody serves",
        (at.web(at.a),),
        (
            *(row(client, unallocated, 80, "dropped") for client in ("pod", "node", "outside")),
            *(row(client, at.cluster_ip, 81, "refused") for client in ("pod", "outside")),
            row("pod", at.cluster_ip, 80, "refused", "UDP"),
            row("pod", at.balancer, 81, "passed"),
            row("pod", gateway, 30080, "passed"),
        ),
    )
    yield Scene(
        "node ports at all addresses",
        (at.web(at.a),),
        (row("pod", gateway, 30080, "a-node"), row("outside", at.plan.node, 30080, "a-node")),
        {"nodeport_addresses": (ip_network(f"{at.plan.everywhere}/0"),)},
    )
    loopback = at.plan.loopback
    yield Scene(
        "node ports at localhost",
        (at.web(at.a, at.far, external="Local"),),
        (row("localhost", loopback, 30080, "a-node+remote-node"), row("localhost", loopback, 30081, "passed")),
    )
    yield Scene("node ports at localhost, nobody", (at.web(),), (row("localhost", loopback, 30080, "passed"),))
    yield Scene(
        "node ports not at localhost",
        (at.web(at.a),),
        (row("localhost", loopback, 30080, "passed"), row("node", at.plan.node, 30080, "a-node")),
        {"localhost_node_ports": False},
    )
    proxied = service("web", at.cluster_ip, ingress=[objects.LoadBalancerIngress(ip=at.balancer, ip_mode="Proxy")])
    given = ((proxied, endpoint_slice("web", [at.a])),)
    yield Scene("a load balancer in mode Proxy", given, at.rows(["outside"], ["lb"], "passed"))


def _source_ranges(at: Place) -> Iterator[Scene]:
    ranges = (str(ip_network(at.plan.outside)), at.far_cidr)
    yield Scene(
        "source ranges",
        (at.web(at.a, external="Local", load_balancer_source_ranges=ranges),),
        (
            *at.rows(["outside", "far-pod"], ["lb"], "a-own"),
            *at.rows(["node2", "pod", "node"], ["lb"], "dropped"),
            *at.rows(["node2"], ["external", "nodeport"], "a-own"),
            *at.rows(["node2"], ["cluster"], "a-node"),
        ),
    )
    yield Scene(
        "source ranges of the other family alone",
        (at.web(at.a, load_balancer_source_ranges=(at.other_family,)),),
        (*at.rows(["outside"], ["lb"], "dropped"), *at.rows(["outside"], ["external"], "a-node")),
    )


def _protocols(at: Place) -> Iterator[Scene]:
    ports = [(53, "dns", "UDP", 30053), (53, "dns-tcp", "TCP", 30053)]
    targets = [(8080, "dns", "UDP"), (8081, "dns-tcp")]
    dns, node = service("dns", at.dns, type="NodePort", ports=ports), at.plan.node
    yield Scene(
        "UDP and TCP on one number",
        ((dns, endpoint_slice("dns", [at.a, at.far], ports=targets)),),
        (
            row("pod", at.dns, 53, "a-own+remote-own", "UDP"),
            row("pod", at.dns, 53, "a-own+remote-own"),
            row("self", at.dns, 53, "a-node+remote-own", "UDP"),
            row("outside", node, 30053, "a-node+remote-node", "UDP"),
            row("node", node, 30053, "a-node+remote-node", "UDP"),
            row("outside", at.dns, 54, "refused", "UDP"),
        ),
    )
    yield Scene(
        "UDP that nobody serves",
        ((dns,),),
        (
            row("pod", at.dns, 53, "refused", "UDP"),
            row("outside", node, 30053, "refused", "UDP"),
            row("node", at.dns, 53, "refused", "UDP"),
        ),
    )


def _balancing(at: Place) -> Iterator[Scene]:
    yield Scene("a single endpoint", (at.web(at.b),), at.rows(["pod"], ["cluster"], "b-own"))
    sticky = service("web", at.cluster_ip, affinity=600), endpoint_slice("web", [at.b])
    yield Scene("affinity keeps a client", (sticky,), at.rows(["pod", "self"], ["cluster"], "b-own"))
    hinted = [
        objects.Endpoint(
            addresses=(address,),
            node_name="node9",
            hints=objects.EndpointHints(for_zones=(objects.ForName(name=zone),)),
        )
        for address, zone in ((at.plan.pods["a"], "zone1"), (at.plan.remote, "zone2"))
    ]
    yield Scene("hints for this zone", (at.web(*hinted),), at.rows(["pod"], ["cluster"], "a-own"))
    weightless = endpoint_slice("web", [at.a, at.far], weights={at.plan.pods["a"]: 0})
    given = ((service("web", at.cluster_ip), weightless),)
    yield Scene("an endpoint of no weight", given, at.rows(["pod"], ["cluster"], "remote-own"))


def scenes(at: Place) -> tuple[Scene, ...]:
    made = (matrix, _fallback, _local_fallback, _ways_in, _source_ranges, _protocols, _balancing)
    return tuple(scene for each in made for scene in each(at))


PLACES = {"IPv4": Place(IPV4), "IPv6": Place(IPV6)}
CASES = [(family, scene) for family, place in PLACES.items() for scene in scenes(place)]
IDS = [f"{family}-{scene}" for family, scene in CASES]
