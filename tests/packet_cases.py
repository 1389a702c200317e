"""What becomes of packets to Services, case by case: one table for the tracer and for real packets in the kernel.

The node and its pods are those of tests/service_node.py. The clients:

    pod 10.244.1.2 and self 10.244.1.3, pods of this node; self is endpoint `a` · node 192.0.2.1, this node itself
    far-pod 10.244.3.7, a pod of another node · node2 192.0.2.3, another node · outside 192.0.2.2, no part of the cluster

Endpoints: `a` 10.244.1.3 and `b` 10.244.1.4 on this node, `remote` 10.244.2.6 on another. A cell says who answers and which
source it sees, the client's own address or one of the node's: `a own`. Several, taken in turn, are joined by +. Otherwise it
is `refused`, `dropped` or `passed`: left alone, as if there were no Services.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network

from kube import objects
from tests.service_node import GATEWAY, NODE, OUTSIDE, PODS, REMOTE
from tests.services import endpoint, endpoint_slice, service

NODE2, FAR_POD = "192.0.2.3", "10.244.3.7"
CLIENTS = {
    "pod": PODS["client"],
    "self": PODS["a"],
    "node": NODE,
    "far-pod": FAR_POD,
    "node2": NODE2,
    "outside": OUTSIDE,
}
ENDPOINTS = {"a": PODS["a"], "b": PODS["b"], "remote": REMOTE}

CLUSTER_IP, EXTERNAL_IP, BALANCER = "10.96.0.10", "203.0.113.1", "203.0.113.2"
FRONTS = {"cluster": (CLUSTER_IP, 80), "external": (EXTERNAL_IP, 80), "lb": (BALANCER, 80), "nodeport": (NODE, 30080)}
EXTERNAL = ("external", "lb", "nodeport")

LEAVING = {"ready": False, "serving": True, "terminating": True}
UNREADY = {"ready": False, "serving": False, "terminating": False}
ENDING = {"ready": False, "serving": False, "terminating": True}
A, B, FAR = endpoint(PODS["a"]), endpoint(PODS["b"]), endpoint(REMOTE, node="node2")


@dataclass(frozen=True)
class Row:
    """A client sends to an address and port."""

    client: str
    address: str
    port: int
    expected: frozenset[str]
    protocol: str = "TCP"
    timeouts: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "timeouts", bool(self.expected & {"dropped", "passed"}))

    def __str__(self) -> str:
        return f"{self.client} → {self.address}:{self.port}/{self.protocol}"


@dataclass(frozen=True)
class Scene:
    """What the API says, how the node is different from usual, and what packets meet then."""

    name: str
    given: tuple
    rows: tuple[Row, ...]
    here: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def web(*endpoints: objects.Endpoint, internal: str = "Cluster", external: str = "Cluster", **spec) -> tuple:
    """One Service with every way in."""
    made = service(
        "web",
        CLUSTER_IP,
        type="LoadBalancer",
        ports=[(80, "http", "TCP", 30080)],
        external_ips=(EXTERNAL_IP,),
        ingress=[BALANCER],
        internal_traffic_policy=internal,
        external_traffic_policy=external,
        **spec,
    )
    return made, endpoint_slice("web", endpoints)


def rows(clients: Iterable[str], fronts: Iterable[str], cell: str) -> tuple[Row, ...]:
    return tuple(Row(client, *FRONTS[front], expected(cell)) for client in clients for front in fronts)


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


def matrix() -> Iterator[Scene]:
    header, *lines = [line.split() for line in MATRIX.splitlines() if line.strip()]
    for setup, here in SETUPS.items():
        column = header.index("known" if setup == "interface" else setup)
        for internal, external in dict.fromkeys((line[0], line[1]) for line in lines):
            mine = [line for line in lines if (line[0], line[1]) == (internal, external)]
            given = (web(A, FAR, internal=internal, external=external),)
            yield Scene(f"{setup}-internal-{internal}-external-{external}", given, tuple(_cells(mine, column)), here)


def _cells(lines: list[list[str]], column: int) -> Iterator[Row]:
    for line in lines:
        yield from rows([line[2]], ["cluster"] if line[3] == "cluster" else EXTERNAL, line[column])


# --- who serves: endpoints in every condition, policies Local

EVERYBODY, NOT_HERE = tuple(CLIENTS), ("far-pod", "node2", "outside")


A_LEAVING, FAR_LEAVING = endpoint(PODS["a"], **LEAVING), endpoint(REMOTE, node="node2", **LEAVING)


def _fallback() -> Iterator[Scene]:
    yield Scene(
        "nobody",
        (web(),),
        (*rows(["pod", "node", "outside"], FRONTS, "refused"), row("pod", CLUSTER_IP, 81, "refused")),
    )
    yield Scene(
        "nobody is ready",
        (web(endpoint(PODS["a"], **UNREADY), endpoint(REMOTE, node="node2", **ENDING)),),
        rows(["pod", "outside"], FRONTS, "refused"),
    )
    yield Scene("one that leaves serves if nobody is ready", (web(A_LEAVING),), rows(["node2"], FRONTS, "a-node"))
    yield Scene("one that leaves does not if another is ready", (web(A_LEAVING, B),), rows(["node2"], FRONTS, "b-node"))


def _local_fallback() -> Iterator[Scene]:
    made = rows(["pod", "outside"], ["cluster"], "dropped")
    yield Scene(
        "local-nobody here",
        (web(FAR, internal="Local", external="Local"),),
        (
            *made,
            *rows(["node2"], ["external", "nodeport"], "dropped"),
            *rows(["pod"], EXTERNAL, "remote-own"),
            *rows(["node"], EXTERNAL, "remote-node"),
        ),
    )
    scene = Scene(
        "local-one leaves here",
        (web(A_LEAVING, FAR, internal="Local", external="Local"),),
        (
            *rows(["pod"], ["cluster"], "a-own"),
            *rows(["node2", "outside"], EXTERNAL, "a-own"),
            *rows(["pod"], EXTERNAL, "remote-own"),
        ),
    )
    yield scene
    yield Scene(
        "local-one leaves elsewhere",
        (web(A, FAR_LEAVING, internal="Local", external="Local"),),
        (*rows(["pod"], FRONTS, "a-own"), *rows(["outside"], EXTERNAL, "a-own")),
    )


# --- ways in


def _ways_in() -> Iterator[Scene]:
    yield Scene(
        "addresses nobody serves",
        (web(A),),
        (
            row("pod", "10.96.9.9", 80, "dropped"),
            row("node", "10.96.9.9", 80, "dropped"),
            row("outside", "10.96.9.9", 80, "dropped"),
            row("pod", CLUSTER_IP, 81, "refused"),
            row("outside", CLUSTER_IP, 81, "refused"),
            row("pod", CLUSTER_IP, 80, "refused", "UDP"),
            row("pod", BALANCER, 81, "passed"),
            row("pod", GATEWAY, 30080, "passed"),
        ),
    )
    yield Scene(
        "node ports at all addresses",
        (web(A),),
        (row("pod", GATEWAY, 30080, "a-node"), row("outside", NODE, 30080, "a-node")),
        {"nodeport_addresses": (ip_network("0.0.0.0/0"),)},
    )
    yield Scene(
        "source ranges",
        (web(A, external="Local", load_balancer_source_ranges=("192.0.2.2/32", "10.244.3.0/24")),),
        (
            *rows(["outside", "far-pod"], ["lb"], "a-own"),
            *rows(["node2"], ["lb"], "dropped"),
            *rows(["pod"], ["lb"], "dropped"),
            *rows(["node"], ["lb"], "dropped"),
            *rows(["node2"], ["external", "nodeport"], "a-own"),
            *rows(["node2"], ["cluster"], "a-node"),
        ),
    )
    yield Scene(
        "source ranges of the other family alone",
        (web(A, load_balancer_source_ranges=("2001:db8::/32",)),),
        (*rows(["outside"], ["lb"], "dropped"), *rows(["outside"], ["external"], "a-node")),
    )
    proxied = service("web", CLUSTER_IP, ingress=[objects.LoadBalancerIngress(ip=BALANCER, ip_mode="Proxy")])
    yield Scene(
        "a load balancer in mode Proxy", ((proxied, endpoint_slice("web", [A])),), rows(["outside"], ["lb"], "passed")
    )


def _protocols() -> Iterator[Scene]:
    ports = [(53, "dns", "UDP", 30053), (53, "dns-tcp", "TCP", 30053)]
    targets = [(8080, "dns", "UDP"), (8081, "dns-tcp")]
    dns = service("dns", "10.96.0.53", type="NodePort", ports=ports)
    yield Scene(
        "UDP and TCP on one number",
        ((dns, endpoint_slice("dns", [A, FAR], ports=targets)),),
        (
            row("pod", "10.96.0.53", 53, "a-own+remote-own", "UDP"),
            row("pod", "10.96.0.53", 53, "a-own+remote-own"),
            row("self", "10.96.0.53", 53, "a-node+remote-own", "UDP"),
            row("outside", NODE, 30053, "a-node+remote-node", "UDP"),
            row("node", NODE, 30053, "a-node+remote-node", "UDP"),
            row("outside", "10.96.0.53", 54, "refused", "UDP"),
        ),
    )
    yield Scene(
        "UDP that nobody serves",
        ((service("dns", "10.96.0.53", type="NodePort", ports=ports),),),
        (
            row("pod", "10.96.0.53", 53, "refused", "UDP"),
            row("outside", NODE, 30053, "refused", "UDP"),
            row("node", "10.96.0.53", 53, "refused", "UDP"),
        ),
    )


def _balancing() -> Iterator[Scene]:
    yield Scene("a single endpoint", (web(B),), rows(["pod"], ["cluster"], "b-own"))
    yield Scene(
        "affinity keeps a client",
        ((service("web", CLUSTER_IP, affinity=600), endpoint_slice("web", [B])),),
        rows(["pod", "self"], ["cluster"], "b-own"),
    )
    hinted = [
        objects.Endpoint(
            addresses=(address,),
            node_name="node9",
            hints=objects.EndpointHints(for_zones=(objects.ForName(name=zone),)),
        )
        for address, zone in ((PODS["a"], "zone1"), (REMOTE, "zone2"))
    ]
    yield Scene("hints for this zone", (web(*hinted),), rows(["pod"], ["cluster"], "a-own"))
    weighted = service("web", CLUSTER_IP), endpoint_slice("web", [A, FAR], weights={PODS["a"]: 0})
    yield Scene("an endpoint of no weight", (weighted,), rows(["pod"], ["cluster"], "remote-own"))


SCENES = (*matrix(), *_fallback(), *_local_fallback(), *_ways_in(), *_protocols(), *_balancing())
