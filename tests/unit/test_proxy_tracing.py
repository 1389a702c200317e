"""The tracer itself: it understands every rule of the table, in words, and refuses what it does not."""

from ipaddress import ip_address, ip_network

import msgspec
import pytest

from dataplane.nft import expressions, values
from dataplane.nft.objects import Element, Family
from dataplane.nft.values import Verdict
from kube import objects
from proxy import layout
from proxy import state as states
from proxy.here import Here
from proxy.ruleset import Ruleset
from proxy.state import ChainContent
from proxy.tracing import drift, machine, parsing, words
from proxy.tracing.desired import Desired, desired, fixed_chains
from proxy.tracing.explanation import Explanation, Way, explain
from proxy.tracing.packet import Host, Origin, Packet
from proxy.tracing.table import DeadEnd, Rules
from tests.address_plan import IPV4
from tests.packet_cases import LEAVING, PLACES, UNREADY
from tests.services import RULESET, World, endpoint, endpoint_slice, service

A, B, FAR, web = PLACES["IPv4"].a, PLACES["IPv4"].b, PLACES["IPv4"].far, PLACES["IPv4"].web
GATEWAY, HERE, NODE, OUTSIDE, PODS = IPV4.gateway, IPV4.here, IPV4.node, IPV4.outside, IPV4.pods
HOST = Host(addresses=frozenset(map(ip_address, (NODE, GATEWAY))))
EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
HERES = [
    Here(node="node1"),
    HERE,
    msgspec.structs.replace(HERE, masquerade_all=True),
    msgspec.structs.replace(HERE, pod_cidrs=(), pod_interface="podwire*"),
    msgspec.structs.replace(HERE, nodeport_addresses=EVERYWHERE[:1]),
]


def made(*given: tuple, here: Here = HERE) -> Desired:
    world = World()
    for each in given:
        world.put(*each)
    return desired(world, here, RULESET, "IPv4")


def packet(source: str, destination: str, port: int = 80, **more) -> Packet:
    return Packet(source=ip_address(source), destination=ip_address(destination), port=port, **more)


def explained(wanted: Desired, *ends, **more) -> Explanation:
    return explain(wanted, packet(*ends, **more), host=HOST)


# --- reading


@pytest.mark.parametrize("here", HERES)
@pytest.mark.parametrize("family", [Family.IP, Family.IP6])
def test_every_rule_of_the_table_is_understood(family, here):
    ruleset = Ruleset(family)
    chains = fixed_chains(ruleset, ruleset.node(here, has_node_ports=True), frozenset({60}))

    assert chains[layout.DISPATCH].rules
    hooks = {chain.hook.name for chain in chains.values() if chain.hook}
    assert hooks >= {"prerouting", "output", "postrouting"}


@pytest.mark.parametrize(
    "text",
    [
        "meta mark 1 drop",
        "ip daddr . meta l4proto { 1 } drop",
        "ip saddr somewhere drop",
        "goto",
        "queue",
        "ct mark set meta mark",
        "ip daddr vmap services",
        "add @affinity ip saddr",
    ],
)
def test_a_rule_that_is_not_understood_is_refused(text):
    with pytest.raises(parsing.NotUnderstood):
        parsing.rule(text)


@pytest.mark.parametrize(
    ("line", "priority"),
    [("priority -100", -100), ("priority srcnat", 100), ("priority filter - 10", -10), ("priority dstnat + 5", -95)],
)
def test_the_priority_of_a_hook(line, priority):
    (chain,) = parsing.chains(
        f"table ip t {{\n\tchain c {{\n\t\ttype nat hook output {line}; policy accept;\n\t}}\n}}"
    ).values()

    assert chain.hook.priority == priority


def test_a_rule_that_others_wrote_into_a_chain_is_refused():
    state = states.empty()
    state.chains["svc-x"] = ChainContent(((expressions.Other("xt", b""),),))

    with pytest.raises(parsing.NotUnderstood, match="svc-x"):
        Rules({}, state)


# --- following


def test_a_table_that_leads_nowhere_is_a_dead_end():
    wanted = made(web(A))
    key = values.concat(ip_address("10.96.0.10").packed, values.proto(6), values.port(80))
    state = states.empty()
    state.add(layout.SERVICES, Element(key, Verdict("goto", "svc-gone")))

    with pytest.raises(DeadEnd, match="chain svc-gone"):
        machine.trace(Rules(wanted.chains, state), HOST, packet(PODS["client"], "10.96.0.10"))


def test_a_circle_ends():
    chains = parsing.chains(
        "table ip t {\n\tchain a {\n\t\ttype filter hook output priority 0; policy accept;\n\t\tjump b\n\t}\n"
        "\tchain b {\n\t\tjump b\n\t}\n}"
    )

    with pytest.raises(DeadEnd, match="circle"):
        machine.trace(Rules(chains, states.empty()), HOST, packet(NODE, "10.96.0.10", origin=Origin.NODE))


@pytest.mark.parametrize("members", [1, 2, 7])
def test_every_turn_is_tried(members):
    addresses = [f"10.244.0.{octet}" for octet in range(2, 2 + members)]
    wanted = made((service(), endpoint_slice("web", addresses)))
    traces = machine.trace_turns(Rules(wanted.chains, wanted.state), HOST, packet(PODS["client"], "10.96.0.10"))

    assert {str(trace.target) for trace in traces} == {f"{address}:8080" for address in addresses}


def test_a_client_that_affinity_knows_is_kept():
    wanted = made((service(affinity=60), endpoint_slice("web", ["10.244.0.2", "10.244.0.3"])))
    rules = Rules(wanted.chains, wanted.state)
    first, second = machine.trace_turns(rules, HOST, packet(PODS["client"], "10.96.0.10"))

    assert not first.is_kept
    assert first.target != second.target


def test_a_node_port_at_localhost_is_told_as_one():
    found = explained(made(web(A)), "127.0.0.1", "127.0.0.1", 30080, origin=Origin.NODE)

    assert (found.fate, found.frontend.way) == ("translated", Way.NODE_PORT)


def test_icmp_has_no_port():
    wanted = made(web(A))
    found = explained(wanted, PODS["client"], "10.96.0.10", 0, protocol="ICMP", origin=Origin.POD)

    assert (found.fate, found.reason) == ("refused", "Service default/web has no ICMP")


# --- words


ANSWERS = [
    ("an endpoint of no condition", web(endpoint(PODS["a"], **UNREADY), B), "is not ready"),
    (
        "one that is ending",
        web(endpoint(PODS["a"], ready=False, serving=False, terminating=True), B),
        "is ending and serves no longer",
    ),
    ("one that ends while others are ready", web(endpoint(PODS["a"], **LEAVING), B), "is ending, and others are ready"),
    ("one elsewhere", web(FAR, B, internal="Local"), "is not on node1"),
]


@pytest.mark.parametrize(("given", "reason"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_an_endpoint_that_is_left_out_is_told_why(given, reason):
    found = explained(made(given), PODS["client"], "10.96.0.10", origin=Origin.POD)

    assert [candidate.reason for candidate in found.candidates if not candidate.share] == [reason]
    assert [str(candidate.endpoint.target) for candidate in found.chosen] == [f"{PODS['b']}:8080"]


def test_hints_and_weights_are_told():
    hinted = [
        objects.Endpoint(addresses=(address,), hints=objects.EndpointHints(for_zones=(objects.ForName(name=zone),)))
        for address, zone in ((PODS["a"], "zone1"), (PODS["b"], "zone2"))
    ]
    weighted = service(), endpoint_slice("web", [A, B], weights={PODS["a"]: 0})
    for given, left_out in (
        (web(*hinted), "is meant for other zones or nodes by its hints"),
        (weighted, "weighs nothing"),
    ):
        found = explained(made(given), PODS["client"], "10.96.0.10", origin=Origin.POD)
        assert [candidate.reason for candidate in found.candidates if not candidate.share] == [left_out]


MASQUERADES = [
    (NODE, "10.96.0.10", Origin.NODE, HERE, "what the node itself sends must come back to it"),
    (PODS["a"], "10.96.0.10", Origin.POD, HERE, "an endpoint that reaches itself would answer itself"),
    (OUTSIDE, "10.96.0.10", Origin.OUTSIDE, HERE, "its client is no pod of this node"),
    (
        PODS["client"],
        "203.0.113.1",
        Origin.POD,
        HERE,
        "externalTrafficPolicy Cluster: the answer must come back through this node",
    ),
    (PODS["client"], "10.96.0.10", Origin.POD, HERES[2], "the proxy masquerades all (--masquerade-all)"),
]


@pytest.mark.parametrize(("source", "destination", "origin", "here", "reason"), MASQUERADES)
def test_a_masquerade_is_told_why(source, destination, origin, here, reason):
    found = explained(made(web(A), here=here), source, destination, origin=origin)

    assert [(candidate.source, candidate.masquerade) for candidate in found.chosen] == [(None, reason)]


DEAD_ENDS = [
    (PODS["client"], "203.0.113.1", 80, "refused", "no endpoint in the cluster serves it", web()),
    (PODS["client"], "10.96.0.10", 81, "refused", "Service default/web has no port 81/TCP", web(A)),
    (PODS["client"], "10.96.9.9", 80, "dropped", "no Service has this address of a Service CIDR", web(A)),
    (
        OUTSIDE,
        NODE,
        30080,
        "dropped",
        "the policy is Local and no endpoint is on node1; others serve",
        web(FAR, external="Local"),
    ),
    (
        OUTSIDE,
        "203.0.113.2",
        80,
        "dropped",
        f"{OUTSIDE} is in none of spec.loadBalancerSourceRanges",
        web(A, load_balancer_source_ranges=("198.51.100.0/24",)),
    ),
    (
        PODS["client"],
        "198.51.100.7",
        80,
        "passed",
        "no Service is served there: podwire-proxy leaves the packet as it is",
        web(A),
    ),
]


@pytest.mark.parametrize(("source", "destination", "port", "fate", "reason", "given"), DEAD_ENDS)
def test_what_reaches_nobody_is_told_why(source, destination, port, fate, reason, given):
    found = explained(made(given), source, destination, port)

    assert (found.fate, found.reason) == (fate, reason)
    assert words.result(found).endswith(reason)


def test_a_service_that_cannot_be_served_is_named():
    wanted = made(web(A), (service("other", "10.96.0.300"),), (service("later", "10.96.0.10"),))

    assert [str(error) for error in wanted.not_served.values()] == [
        "Service default/other: spec.clusterIP '10.96.0.300': must be an IP address",
        *[text for text in map(str, wanted.not_served.values()) if "belongs to Service" in text],
    ]
    assert len(wanted.not_served) == 2


def test_a_hundred_endpoints_are_not_all_printed():
    addresses = [f"10.244.0.{octet}" for octet in range(2, 102)]
    told = list(
        words.lines(explained(made((service(), endpoint_slice("web", addresses))), PODS["client"], "10.96.0.10"))
    )

    assert any("… and 80 more" in line for line in told)
    assert told[-1].endswith("goes to one of 100 endpoints, in strict turn")


# --- drift


def test_the_same_services_have_no_drift_whatever_their_ids():
    one, other = (
        made(web(A, B, FAR)),
        made((service("first", "10.96.0.9"), endpoint_slice("first", [A, B])), web(FAR, B, A)),
    )
    places = [each.place for each in drift.of_services(one.state, other.state)]

    assert places == ["cluster-ips 10.96.0.9", "services 10.96.0.9 . tcp . 80"]


def test_an_endpoint_that_nothing_leads_to_is_drift():
    wanted = made(web(A))
    found = states.union([wanted.state, states.empty()])
    found.add(layout.ENDPOINTS, Element(values.mark(0x7FFF_0000), values.concat(bytes((10, 0, 0, 9)), values.port(80))))

    assert [str(each) for each in drift.of_services(wanted.state, found)] == [
        "endpoints of nobody, 10.0.0.9:80: should be nothing, is there"
    ]
