"""The usual Service in one go makes what the steps for all Services make, and leaves every other to them."""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.nft.objects import Element
from kube import objects
from kube.objects import EndpointSlice, Service
from proxy import layout, model, render, topology, turns, usual
from proxy import state as states
from proxy.identities import Assignment, Member, Ring
from proxy.model import Scope
from proxy.render import PortPlan
from proxy.state import ChainContent, State

NODE = "node1"
FIRST_ID = layout.ENDPOINT_IDS.start + 1
ADDRESSES = {
    "IPv4": ("10.244.0.2", "10.244.0.10", "10.244.1.9", "10.244.0.9"),
    "IPv6": ("fd00::2", "fd00::a", "fd00:0::b", "fd00::1:0"),
}
ODD_ADDRESSES = ("127.0.0.1", "10.244.0.02", "fd00::x", "::1", "x")
CLUSTER_IPS = {"IPv4": ("10.96.0.10", "fd00:96::10", "10.96.0.300", "None", ""), "IPv6": ("fd00:96::10", "10.96.0.10")}


def usually(usual_value, *others):
    """Nearly always the first: a Service with one odd field is the interesting one."""
    return st.integers(0, 29).flatmap(lambda n: st.sampled_from(others) if n == 29 else st.just(usual_value))


METADATA = st.builds(
    objects.ServiceMeta,
    name=st.sampled_from(["web", "w" * 63]),
    namespace=st.just("default"),
    labels=usually({}, {model.SERVICE_PROXY_NAME: "other"}),
)
PORTS = st.builds(
    objects.ServicePort,
    port=usually(80, 0, 65536, 65535),
    name=st.sampled_from(["", "http"]),
    protocol=st.sampled_from(["TCP", "UDP", "SCTP"]),
    node_port=usually(0, 30080),
)


@st.composite
def services(draw, family: str) -> Service:
    ports = draw(PORTS)
    spec = objects.ServiceSpec(
        type=draw(usually("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")),
        cluster_ips=draw(usually((CLUSTER_IPS[family][0],), *((text,) for text in CLUSTER_IPS[family]))),
        ports=draw(usually((ports,), (), (ports, objects.ServicePort(port=81, name="more")))),
        external_ips=draw(usually((), ("192.0.2.1",))),
        session_affinity=draw(usually("None", "ClientIP")),
        internal_traffic_policy=draw(usually("Cluster", "Local")),
        external_traffic_policy=draw(st.sampled_from(["", "Cluster", "Local"])),
        health_check_node_port=draw(usually(0, -1, 32000)),
        load_balancer_source_ranges=draw(usually((), ("192.0.2.0/24",), ("x",))),
    )
    ingress = draw(usually((), (objects.LoadBalancerIngress(ip="203.0.113.1"),)))
    status = objects.ServiceStatus(load_balancer=objects.LoadBalancerStatus(ingress=ingress))
    return Service(metadata=draw(METADATA), spec=spec, status=status)


CONDITIONS = st.builds(
    objects.EndpointConditions,
    ready=usually(True, None, False),
    serving=st.sampled_from([None, True, False]),
    terminating=st.sampled_from([None, True, False]),
)
HINTS = usually(None, objects.EndpointHints(for_nodes=(objects.ForName(name=NODE),)), objects.EndpointHints())


@st.composite
def slices(draw, family: str, port: objects.ServicePort) -> EndpointSlice:
    entries = st.builds(
        objects.Endpoint,
        addresses=st.sampled_from(ADDRESSES[family]).flatmap(
            lambda text: usually((text,), (), *((odd,) for odd in ODD_ADDRESSES))
        ),
        conditions=CONDITIONS,
        node_name=st.sampled_from([None, "", NODE, "node2"]),
        hints=HINTS,
    )
    number = objects.EndpointPort(name=port.name, port=8080, protocol=port.protocol)
    return EndpointSlice(
        metadata=objects.AnnotatedMeta(
            name=draw(st.sampled_from("abc")), annotations=draw(usually(None, {}, {model.WEIGHTS: '{"10.244.0.2": 3}'}))
        ),
        address_type=draw(usually(family, "IPv4", "IPv6", "FQDN")),
        endpoints=draw(st.lists(entries, max_size=3, unique_by=lambda entry: entry.addresses).map(tuple))
        or draw(st.none() | st.just(())),
        ports=draw(usually((number,), None, (), (number, objects.EndpointPort(name="other", port=1)))),
    )


@st.composite
def clusters(draw):
    family = draw(st.sampled_from(["IPv4", "IPv6"]))
    service = draw(services(family))
    port = service.spec.ports[0] if service.spec.ports else objects.ServicePort(port=80)
    return family, service, draw(st.lists(slices(family, port), max_size=2).map(tuple))


@given(clusters(), st.integers(0, 3), st.booleans())
def test_a_usual_service_is_read_and_rendered_as_any_other(cluster, turn, by_id):
    family, service, its_slices = cluster
    found = usual.read(service, its_slices, family=family, node=NODE)
    if found is None:
        return
    (port,) = model.service_ports(service, family)
    choice = topology.choose(model.endpoints(its_slices, port), node=NODE)
    order = turns.turns(choice.cluster)
    members = [Member(target, 8193 + index) for index, target in enumerate(order)]
    first = None if found.ring is Ring.NONE else 8193 if by_id else 40
    assignment = Assignment(tuple(members[turn:] + members[:turn]), first, by_id)
    plan = PortPlan(
        port=port,
        assignments={Scope.CLUSTER: assignment},
        local=frozenset(each.target for each in choice.cluster if topology.may_be_local(each, NODE)),
        is_served=choice.is_served,
        allowed_sources=port.source_ranges,
    )

    assert port.scopes == (Scope.CLUSTER,)
    assert (found.name, found.frontend, list(found.targets)) == (port.name, layout.frontend(port), order)
    assert found.ring == render.ring(port, Scope.CLUSTER, len(order))
    assert usual.render(found, assignment) == render.render([plan])


@given(clusters(), st.integers(0, 3), st.booleans(), st.data())
def test_a_usual_service_stands_in_a_table_that_has_all_of_it_and_in_no_other(cluster, turn, by_id, data):
    family, service, its_slices = cluster
    port = usual.read(service, its_slices, family=family, node=NODE)
    if port is None:
        return
    members = [Member(target, FIRST_ID + index) for index, target in enumerate(port.targets)]
    first = None if port.ring is Ring.NONE else FIRST_ID if by_id else 40
    assignment = Assignment(tuple(members[turn:] + members[:turn]), first, by_id and first is not None)
    state = usual.render(port, assignment)
    others = State({layout.RING: {b"else": Element(b"else", b"1234")}}, {"svc-other": ChainContent(())})
    damaged = data.draw(st.sampled_from(list(damages(state))))

    assert usual.standing(states.union([others, state]), port) == assignment
    assert usual.size(port, assignment) == state.size
    assert usual.standing(damaged, port) != assignment


def damages(state: State) -> Iterator[State]:
    """It without each of its parts, and with each of them changed."""
    for set_name, element in state.entries():
        for instead in ({}, {element.key: msgspec.structs.replace(element, comment="another")}):
            kept = {key: each for key, each in state.elements[set_name].items() if key != element.key}
            yield State({**state.elements, set_name: kept | instead}, state.chains)
    for name, content in state.chains.items():
        yield State(state.elements, {})
        yield State(state.elements, {name: msgspec.structs.replace(content, comment="another")})
        yield State(state.elements, {name: msgspec.structs.replace(content, rules=content.rules[:1])})
        yield State(state.elements, {name: msgspec.structs.replace(content, rules=((), *content.rules))})


@pytest.mark.parametrize(
    "one",
    [
        objects.Endpoint(
            addresses=("10.244.0.9",), hints=objects.EndpointHints(for_nodes=(objects.ForName(name="b"),))
        ),
        objects.Endpoint(addresses=("10.244.0.9",), conditions=objects.EndpointConditions(ready=False)),
        objects.Endpoint(addresses=("10.244.0.2",)),
    ],
    ids=["a hint", "not ready", "twice"],
)
def test_an_endpoint_that_asks_for_more_than_a_turn_makes_its_service_unusual(one):
    made = Service(
        metadata=objects.ServiceMeta(name="web", namespace="default"),
        spec=objects.ServiceSpec(cluster_ips=("10.96.0.10",), ports=(objects.ServicePort(port=80),)),
    )
    plain = EndpointSlice(
        metadata=objects.AnnotatedMeta(name="a"),
        endpoints=(objects.Endpoint(addresses=("10.244.0.2",)),),
        ports=(objects.EndpointPort(name="", port=8080),),
    )
    odd = msgspec.structs.replace(plain, endpoints=(one,))

    assert usual.read(made, [plain], family="IPv4", node=NODE) is not None
    assert usual.read(made, [plain, odd], family="IPv4", node=NODE) is None


@given(clusters())
def test_most_services_are_usual_and_each_deviation_makes_one_unusual(cluster):
    """The law above would hold if nothing were usual: this says what is."""
    family, service, its_slices = cluster
    spec = service.spec
    try:
        ports = model.service_ports(service, family)
    except model.InvalidService:
        ports = ()
    plain = [port for port in ports if port.scopes == (Scope.CLUSTER,) and not port.is_external]
    endpoints = model.endpoints(its_slices, plain[0]) if len(plain) == 1 else ()
    asks_for_more = spec.session_affinity != "None" or spec.load_balancer_source_ranges or spec.health_check_node_port
    is_plain = len(spec.ports) == 1 and spec.type == "ClusterIP" and not asks_for_more and endpoints
    has_odd_endpoint = any(
        entry.hints is not None or entry.conditions.ready is False
        for each in its_slices
        for entry in each.endpoints or ()
    )
    has_weights = any(model.WEIGHTS in (each.metadata.annotations or {}) for each in its_slices)
    addresses = [entry.addresses for each in its_slices for entry in each.endpoints or ()]
    is_twice = len(set(addresses)) < len(addresses)
    is_usual = usual.read(service, its_slices, family=family, node=NODE) is not None

    if not is_plain or spec.external_ips or service.status.load_balancer.ingress:
        assert not is_usual
    elif not (has_odd_endpoint or has_weights or is_twice):
        assert is_usual
