"""From API objects to Service ports and endpoints."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from kube import objects
from proxy import model
from proxy.model import Endpoint, InvalidService, ServiceName, Target
from tests.services import endpoint, endpoint_slice, service


def ports_of(given: objects.Service, family: str = "IPv4") -> tuple:
    return model.service_ports(given, family)


def one_port(**spec):
    (port,) = ports_of(service(**spec))
    return port


def target(address: str, port: int = 8080) -> Target:
    return Target(IPv4Address(address).packed, port)


@pytest.mark.parametrize(
    "skipped",
    [
        service(cluster_ip="None"),
        service(cluster_ip=""),
        service(type="ExternalName"),
        service(labels={"service.kubernetes.io/service-proxy-name": "other"}),
        service(labels={"service.kubernetes.io/service-proxy-name": ""}),
        service(cluster_ip="fd00::1"),
    ],
    ids=["headless", "no cluster IP", "ExternalName", "another proxy's", "an empty proxy name", "another family"],
)
def test_services_that_are_not_served(skipped):
    assert ports_of(skipped) == ()


def test_every_port_is_one_of_its_own():
    found = ports_of(service(ports=[(53, "dns", "UDP"), (53, "dns-tcp", "TCP"), (9, "s", "SCTP")]))

    assert [(port.name.port, port.name.protocol, port.port) for port in found] == [
        ("dns", "UDP", 53),
        ("dns-tcp", "TCP", 53),
        ("s", "SCTP", 9),
    ]


@pytest.mark.parametrize(("family", "address"), [("IPv4", "10.96.0.10"), ("IPv6", "fd00::a")])
def test_a_dual_stack_service_has_one_address_in_each_family(family, address):
    (port,) = ports_of(service(cluster_ips=("fd00::a", "10.96.0.10")), family)

    assert str(port.cluster_ip) == address


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, None),
        ({"affinity": 60}, 60),
        ({"session_affinity": "ClientIP"}, 10800),
        ({"session_affinity": "ClientIP", "session_affinity_config": objects.SessionAffinityConfig()}, 10800),
        ({"session_affinity": "None", "session_affinity_config": objects.SessionAffinityConfig()}, None),
    ],
    ids=["none", "said", "default", "empty config", "switched off"],
)
def test_the_affinity_timeout(spec, seconds):
    assert one_port(**spec).affinity_seconds == seconds


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        (service(cluster_ip="10.96.0.300"), "spec.clusterIP", "10.96.0.300"),
        (service(ports=[(0, "http")]), "spec.ports[0].port", 0),
        (service(ports=[(80, "a"), (65536, "b")]), "spec.ports[1].port", 65536),
        (service(ports=[(80, "a"), (80, "b")]), "spec.ports[1].port", 80),
        (service(ports=[(80, "a"), (81, "a")]), "spec.ports[1].name", "a"),
        (service(affinity=0), "spec.sessionAffinityConfig.clientIP.timeoutSeconds", 0),
        (service(affinity=86401), "spec.sessionAffinityConfig.clientIP.timeoutSeconds", 86401),
    ],
    ids=["address", "port 0", "port too large", "port twice", "name twice", "timeout 0", "timeout too long"],
)
def test_a_service_that_cannot_be_served_says_why(given, field, value):
    with pytest.raises(InvalidService) as failure:
        ports_of(given)

    assert (failure.value.field, failure.value.value) == (field, value)
    assert f"Service default/web: {field} {value!r}" in str(failure.value)


# --- endpoints


def endpoints_of(*slices: objects.EndpointSlice, **spec) -> tuple:
    return model.endpoints(slices, one_port(**spec))


def test_endpoints_of_all_slices_in_the_order_of_addresses():
    found = endpoints_of(
        endpoint_slice("web", ["10.244.0.10", "10.244.0.3"], name="one"),
        endpoint_slice("web", ["10.244.0.9"], name="two"),
    )

    assert [one.target for one in found] == [target("10.244.0.3"), target("10.244.0.9"), target("10.244.0.10")]


@pytest.mark.parametrize(
    "ports",
    [
        [(8080, "other")],
        [(8080, "http", "UDP")],
        [(8080, None)],
        [(None, "http")],
        [(0, "http")],
        [(70000, "http")],
        [],
    ],
    ids=["other name", "other protocol", "no name", "no number", "zero", "too large", "no port"],
)
def test_a_slice_that_does_not_have_the_port_has_no_endpoint(ports):
    assert endpoints_of(endpoint_slice("web", ["10.244.0.2"], ports=ports)) == ()


def test_a_slice_may_have_null_for_its_lists():
    empty = objects.EndpointSlice(metadata=objects.AnnotatedMeta(name="x"), endpoints=None, ports=None)

    assert endpoints_of(empty) == ()


@pytest.mark.parametrize(
    "address",
    ["", "nonsense", "10.244.0", "fd00::2", "web.example", "127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1"],
)
def test_an_endpoint_without_a_usable_address_is_left_out(address):
    found = endpoints_of(endpoint_slice("web", [address, "10.244.0.2"]))

    assert [one.target for one in found] == [target("10.244.0.2")]


def test_only_the_first_address_counts():
    several = objects.Endpoint(addresses=("10.244.0.2", "10.244.0.3"))

    assert [one.target for one in endpoints_of(endpoint_slice("web", [several]))] == [target("10.244.0.2")]


def test_conditions_that_are_not_said():
    (found,) = endpoints_of(endpoint_slice("web", [endpoint("10.244.0.2", node=None)]))

    assert found == Endpoint(target=target("10.244.0.2"), ready=True, serving=True, terminating=False, node=None)


@pytest.mark.parametrize("reverse", [False, True])
def test_of_two_entries_for_a_target_the_better_one_counts(reverse):
    slices = [
        endpoint_slice("web", [endpoint("10.244.0.2", ready=False, terminating=True)], name="old"),
        endpoint_slice("web", [endpoint("10.244.0.2", node="node2")], name="new"),
    ]
    (found,) = endpoints_of(*(reversed(slices) if reverse else slices))

    assert (found.ready, found.terminating, found.node) == (True, False, "node2")


def test_ports_with_one_name_and_two_numbers_are_two_targets():
    found = endpoints_of(endpoint_slice("web", ["10.244.0.2"], ports=[(8080, "http"), (8081, "http")]))

    assert [one.target.port for one in found] == [8080, 8081]


def test_ipv6_endpoints_belong_to_an_ipv6_cluster_ip():
    (port,) = ports_of(service(cluster_ip="fd00::a"), "IPv6")
    (found,) = model.endpoints([endpoint_slice("web", ["10.244.0.2"]), endpoint_slice("web", ["fd00::2"])], port)

    assert found.target.address == IPv6Address("fd00::2")


@pytest.mark.parametrize(
    ("labels", "owner"),
    [
        ({"kubernetes.io/service-name": "web"}, ServiceName("default", "web")),
        ({"kubernetes.io/service-name": ""}, None),
        ({}, None),
        ({"kubernetes.io/service-name": "web", "service.kubernetes.io/headless": ""}, None),
    ],
    ids=["labelled", "empty label", "no label", "headless"],
)
def test_the_owner_of_a_slice(labels, owner):
    assert model.slice_owner(endpoint_slice("web", [], labels=labels)) == owner
