"""The tracer against the kernel: whatever Services there are, each packet meets what the tracer says.

tests/packet_cases.py has the cases somebody thought of; these are drawn. The topology and the clients are the same.
"""

import concurrent.futures
import itertools
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.tracing.desired import desired
from proxy.tracing.machine import trace_turns
from proxy.tracing.packet import Host, Origin, Packet
from proxy.tracing.table import Rules
from tests.kernel.test_proxy_packet_cases import ask, prepared
from tests.packet_cases import ENDING, LEAVING, PLACES, UNREADY, Place, Row
from tests.service_node import ServiceNode
from tests.services import World, endpoint, endpoint_slice, service

INSIDE = {"pod": "client", "self": "a", "node": "node", "far-pod": "far-pod", "node2": "outside", "outside": "outside"}
ORIGINS = {"pod": Origin.POD, "self": Origin.POD, "node": Origin.NODE}
INTERFACES = {Origin.POD: "podwire0", Origin.NODE: "", Origin.OUTSIDE: "uplink"}
NAMES = ("a", "b", "c", "remote")
POLICY = st.sampled_from(["Cluster", "Local"])
DRAWN = settings(max_examples=20, suppress_health_check=list(HealthCheck), print_blob=False)

SERVICE = st.fixed_dictionaries(
    {
        "endpoints": st.dictionaries(
            st.sampled_from(NAMES), st.sampled_from([{}, {}, LEAVING, UNREADY, ENDING]), max_size=3
        ),
        "weights": st.sampled_from([None, None, "first none"]),
        "internal": POLICY,
        "external": POLICY,
        "affinity": st.sampled_from([None, None, 600]),
        "protocol": st.sampled_from(["TCP", "TCP", "UDP"]),
        "ranges": st.sampled_from(["none", "none", "outside", "other family"]),
        "ways": st.sets(st.sampled_from(["external", "lb", "nodeport"])),
    }
)
HERE = st.fixed_dictionaries(
    {
        "pods": st.sampled_from(["known", "known", "unknown", "by interface"]),
        "masquerade_all": st.booleans(),
        "node_ports": st.sampled_from(["primary", "all"]),
    }
)


@pytest.fixture(scope="module")
def nodes() -> Iterator[dict[str, ServiceNode]]:
    with prepared(PLACES["IPv4"]) as four, prepared(PLACES["IPv6"]) as six:
        yield {"IPv4": four, "IPv6": six}


def made(at: Place, drawn: dict) -> tuple:
    ways, protocol = drawn["ways"], drawn["protocol"]
    ranges = {"none": (), "outside": (str(ip_network(at.plan.outside)),), "other family": (at.other_family,)}
    entries = [
        endpoint(at.plan.remote, node="node2", **said) if name == "remote" else endpoint(at.plan.pods[name], **said)
        for name, said in drawn["endpoints"].items()
    ]
    weights = {entries[0].addresses[0]: 0} if entries and drawn["weights"] else None
    spec = {
        "external_ips": (at.plan.external(1),) if "external" in ways else (),
        "ingress": [at.balancer] if "lb" in ways else [],
        "load_balancer_source_ranges": ranges[drawn["ranges"]],
    }
    return (
        service(
            "web",
            at.cluster_ip,
            type="LoadBalancer",
            ports=[(80, "http", protocol, 30080 if "nodeport" in ways else 0)],
            internal_traffic_policy=drawn["internal"],
            external_traffic_policy=drawn["external"],
            affinity=drawn["affinity"],
            **spec,
        ),
        endpoint_slice("web", entries, ports=[(8080, "http", protocol)], weights=weights),
    )


def changes(at: Place, drawn: dict) -> dict:
    pods = {
        "known": {},
        "unknown": {"pod_cidrs": ()},
        "by interface": {"pod_cidrs": (), "pod_interface": "podwire*"},
    }
    everywhere = {"nodeport_addresses": (ip_network(f"{at.plan.everywhere}/0"),)}
    return {
        **pods[drawn["pods"]],
        **(everywhere if drawn["node_ports"] == "all" else {}),
        "masquerade_all": drawn["masquerade_all"],
    }


def table(at: Place, given_objects: tuple, here_changes: dict) -> Rules:
    world = World()
    world.put(*given_objects)
    wanted = desired(world, msgspec.structs.replace(at.plan.here, **here_changes), at.plan.ruleset, at.plan.family)
    return Rules(wanted.chains, wanted.state)


def told(at: Place, rules: Rules, client: str, front: tuple, protocol: str) -> set[str]:
    """What the tracer says becomes of it."""
    origin = ORIGINS.get(client, Origin.OUTSIDE)
    packet = Packet(
        source=ip_address(at.clients[client]),
        destination=ip_address(front[0]),
        protocol=protocol,
        port=front[1],
        origin=origin,
        interface=INTERFACES[origin],
    )
    own = {at.plan.node, at.plan.gateway, at.plan.remote_gateway, at.far_gateway}
    names = {ip_address(address).packed: name for name, address in {**at.plan.pods, "remote": at.plan.remote}.items()}
    return {
        f"{names[trace.target.packed]} {'node' if trace.masqueraded_by else 'own'}" if trace.target else trace.fate
        for trace in trace_turns(rules, Host(addresses=frozenset(map(ip_address, own))), packet)
    }


@DRAWN
@given(st.sampled_from(["IPv4", "IPv6"]), SERVICE, HERE)
def test_a_packet_meets_what_the_tracer_says(nodes, family, drawn, drawn_here):
    node, at = nodes[family], PLACES[family]
    given_objects, here_changes = made(at, drawn), changes(at, drawn_here)
    protocol, sticky = drawn["protocol"], drawn["affinity"] is not None
    try:
        node.look(**here_changes)
        node.sync(node.world.put(*given_objects))
        rules, asked = table(at, given_objects, here_changes), {}
        for client, front in itertools.product(INSIDE, at.fronts.values()):
            said = told(at, rules, client, front, protocol)
            asked[Row(client, *front, frozenset(said), protocol)] = said
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            met = dict(zip(asked, pool.map(lambda row: _meet(node, at, row), asked), strict=True))
    finally:
        node.clear()

    wrong = {
        str(row): (set(met[row]), said)
        for row, said in asked.items()
        if not _agrees(at, met[row], said, is_sticky=sticky)
    }
    assert wrong == {}


def _meet(node: ServiceNode, at: Place, row: Row) -> frozenset[str]:
    return node.inside(INSIDE[row.client], lambda: frozenset(ask(at, row) for _ in range(2)))


def _agrees(at: Place, met: frozenset[str], said: set[str], *, is_sticky: bool) -> bool:
    if said == {"passed"}:
        return not any(answer.split()[0] in (*at.endpoints, "c") for answer in met)
    # Turns are shared with the clients that ask at the same time, so two connections need not meet all there are.
    return met <= said and (not is_sticky or len(met) == 1)
