"""Which endpoints serve whom, all combinations: conditions of an endpoint here and of one elsewhere, hints, policies.

What is expected is kube-proxy's rule written down once more, the plain way, and knows nothing of podwire's code. Each
combination goes from API objects through the whole table to where the tracer sends a packet. Here is node1 in zone1.
"""

import itertools
from ipaddress import ip_address

import pytest

from kube import objects
from proxy.tracing.desired import desired
from proxy.tracing.machine import trace_turns
from proxy.tracing.packet import Host, Origin, Packet
from proxy.tracing.table import Rules
from tests.service_node import GATEWAY, HERE, NODE, OUTSIDE, PODS, REMOTE
from tests.services import RULESET, World, endpoint_slice, service

HOST = Host(addresses=frozenset(map(ip_address, (NODE, GATEWAY))))
CONDITIONS = [
    {"ready": ready, "serving": serving, "terminating": terminating}
    for ready, serving, terminating in itertools.product((True, False), repeat=3)
]
POLICIES = list(itertools.product(("Cluster", "Local"), repeat=2))
# name → (zones of the endpoint here, its nodes, zones of the one elsewhere, its nodes)
HINTS = {
    "no hints": ((), (), (), ()),
    "zones, one of each": (("zone1",), (), ("zone2",), ()),
    "zones, only the one elsewhere is for here": (("zone2",), (), ("zone1",), ()),
    "zones, none is for here": (("zone2",), (), ("zone3",), ()),
    "zones, the one elsewhere has none": (("zone1",), (), (), ()),
    "nodes, one of each": ((), ("node1",), (), ("node2",)),
    "nodes, only the one elsewhere is for here": ((), ("node2",), (), ("node1",)),
    "nodes for others, zones for here": (("zone2",), ("node2",), ("zone1",), ("node3",)),
}
HERE_ADDRESS, THERE_ADDRESS = PODS["a"], REMOTE
CLIENTS = {"pod": (PODS["client"], Origin.POD), "node": (NODE, Origin.NODE), "outside": (OUTSIDE, Origin.OUTSIDE)}
FRONTS = {"cluster IP": ("10.96.0.10", 80), "node port": (NODE, 30080)}


def made(address: str, node: str, conditions: dict, zones: tuple, nodes: tuple) -> objects.Endpoint:
    hints = objects.EndpointHints(
        for_zones=tuple(objects.ForName(name=zone) for zone in zones),
        for_nodes=tuple(objects.ForName(name=each) for each in nodes),
    )
    said = objects.EndpointConditions(**conditions)
    return objects.Endpoint(addresses=(address,), node_name=node, conditions=said, hints=hints)


def expected(given: list[objects.Endpoint], policies: tuple[str, str], client: str, front: str) -> set[str]:
    """KEP-1669, KEP-2086, KEP-2433 and kube-proxy's CategorizeEndpoints."""
    ready = [each for each in given if each.conditions.ready]
    leaving = [each for each in given if each.conditions.serving and each.conditions.terminating and each not in ready]
    cluster = near(ready) if ready else leaving
    local_ready = [each for each in ready if each.node_name == "node1"]
    local = local_ready or [each for each in leaving if each.node_name == "node1"]
    is_inside = client != "outside"
    is_local = policies[0] == "Local" if front == "cluster IP" else policies[1] == "Local" and not is_inside
    chosen = local if is_local else cluster
    if chosen:
        return {each.addresses[0] for each in chosen}
    return {"dropped"} if ready or leaving else {"refused"}


def near(ready: list[objects.Endpoint]) -> list[objects.Endpoint]:
    nodes = [{each.name for each in endpoint.hints.for_nodes} for endpoint in ready]
    if all(nodes) and any("node1" in names for names in nodes):
        return [endpoint for endpoint, names in zip(ready, nodes, strict=True) if "node1" in names]
    zones = [{each.name for each in endpoint.hints.for_zones} for endpoint in ready]
    if all(zones) and any("zone1" in names for names in zones):
        return [endpoint for endpoint, names in zip(ready, zones, strict=True) if "zone1" in names]
    return ready


def met(rules: Rules, client: str, front: str) -> set[str]:
    (source, origin), (address, port) = CLIENTS[client], FRONTS[front]
    packet = Packet(source=ip_address(source), destination=ip_address(address), port=port, origin=origin)
    return {str(trace.target.address) if trace.target else trace.fate for trace in trace_turns(rules, HOST, packet)}


@pytest.mark.parametrize("policies", POLICIES, ids="-".join)
@pytest.mark.parametrize("hints", HINTS.values(), ids=HINTS.keys())
def test_endpoints_serve_as_kube_proxy_has_it(hints, policies):
    spec = {"type": "NodePort", "ports": [(80, "http", "TCP", 30080)]}
    policy = {"internal_traffic_policy": policies[0], "external_traffic_policy": policies[1]}
    wrong = {}
    for here, there in itertools.product([None, *CONDITIONS], repeat=2):
        given = [
            made(address, node, said, zones, nodes)
            for address, node, said, zones, nodes in (
                (HERE_ADDRESS, "node1", here, *hints[:2]),
                (THERE_ADDRESS, "node2", there, *hints[2:]),
            )
            if said is not None
        ]
        world = World()
        world.put(service(**spec, **policy), endpoint_slice("web", given))
        wanted = desired(world, HERE, RULESET, "IPv4")
        rules = Rules(wanted.chains, wanted.state)
        for client, front in itertools.product(CLIENTS, FRONTS):
            found, meant = met(rules, client, front), expected(given, policies, client, front)
            if found != meant:
                wrong[str(here), str(there), client, front] = found, meant

    assert wrong == {}
