"""What is known of the node, and the ways into a Service besides its cluster IP. Node: 192.0.2.1, 198.51.100.1, fd00::1."""

from ipaddress import ip_address, ip_network

import pytest

from kube import objects
from proxy import here, model
from proxy.configuration import DetectLocal, KubeProxyConfiguration, Nftables
from proxy.here import Settings, look
from proxy.planning import Planner
from proxy.served import NOT_SERVED
from tests.services import RULESET, World, endpoint_slice, service

ADDRESSES = [("Hostname", "n"), ("ExternalIP", "198.51.100.1"), ("InternalIP", "192.0.2.1"), ("InternalIP", "fd00::1")]
NODE = objects.Node(
    metadata=objects.ObjectMeta(name="node1", labels={here.ZONE: "zone1"}),
    spec=objects.NodeSpec(pod_cidr="10.244.1.0/24", pod_cidrs=("10.244.1.0/24", "fd01::/64")),
    status=objects.NodeStatus(addresses=tuple(objects.NodeAddress(type=kind, address=a) for kind, a in ADDRESSES)),
)


def seen(**settings) -> here.Here:
    return look(Settings(node="node1", **settings), NODE, (), "IPv4")


def networks(*texts: str) -> tuple:
    return tuple(map(ip_network, texts))


def test_the_node_says_where_it_and_its_pods_are():
    found = seen()

    assert found.addresses == (ip_address("192.0.2.1"), ip_address("198.51.100.1"))
    assert (found.pod_cidrs, found.zone) == (networks("10.244.1.0/24"), "zone1")


def test_node_ports_are_at_the_first_internal_address_unless_said():
    assert seen().nodeport_addresses == networks("192.0.2.1/32")
    assert seen(nodeport_addresses=networks("192.0.2.0/24", "fd00::/8")).nodeport_addresses == networks("192.0.2.0/24")


def test_a_family_the_list_does_not_speak_of_has_all_addresses():
    assert seen(nodeport_addresses=networks("fd00::/8")).nodeport_addresses == networks("0.0.0.0/0")


def test_service_cidrs_of_the_other_family_are_left_out():
    cidrs = objects.ServiceCIDRSpec(cidrs=("10.96.0.0/16", "fd02::/112"))
    given = objects.ServiceCIDR(metadata=objects.ObjectMeta(name="kubernetes"), spec=cidrs)

    assert look(Settings(node="n"), None, [given], "IPv4").service_cidrs == networks("10.96.0.0/16")


@pytest.mark.parametrize("text", ["0.0.0.0/0", "x", "", "10.96.0.0/33", "fd00::/0"])
def test_a_service_cidr_that_cannot_be_meant_drops_nothing(text):
    given = objects.ServiceCIDR(metadata=objects.ObjectMeta(name="odd"), spec=objects.ServiceCIDRSpec(cidrs=(text,)))

    assert look(Settings(node="n"), None, [given], "IPv4").service_cidrs == ()


CONFIGURED = [
    (KubeProxyConfiguration(), Settings(node="n")),
    (KubeProxyConfiguration(cluster_cidr="10.0.0.0/8"), Settings(node="n", pod_cidrs=networks("10.0.0.0/8"))),
    (
        KubeProxyConfiguration(
            detect_local_mode="InterfaceNamePrefix", detect_local=DetectLocal(interface_name_prefix="veth")
        ),
        Settings(node="n", pod_interface="veth*"),
    ),
    (KubeProxyConfiguration(node_port_addresses=("primary",)), Settings(node="n")),
    (
        KubeProxyConfiguration(node_port_addresses=("10.0.0.0/8",), nftables=Nftables(masquerade_all=True)),
        Settings(node="n", nodeport_addresses=networks("10.0.0.0/8"), masquerade_all=True),
    ),
]


@pytest.mark.parametrize(("configuration", "settings"), CONFIGURED)
def test_a_configuration_says_how_the_node_is_seen(configuration, settings):
    assert here.settings(configuration, "n") == settings


def test_what_is_not_known_has_no_rule():
    text = RULESET.node(look(Settings(node="n"), None, (), "IPv4"), has_node_ports=True).text

    assert "ip saddr" not in text
    assert "@nodeports" not in text
    assert "drop" not in text


# --- Services


@pytest.mark.parametrize(
    ("spec", "is_local"),
    [
        ({"type": "NodePort"}, True),
        ({"type": "LoadBalancer"}, True),
        ({"type": "ClusterIP", "external_ips": ("203.0.113.1",)}, True),
        ({"type": "ClusterIP"}, False),
    ],
)
def test_the_external_policy_counts_where_there_is_an_external_way_in(spec, is_local):
    (port,) = model.service_ports(service(external_traffic_policy="Local", **spec), "IPv4")

    assert port.external_local is is_local


@pytest.mark.parametrize(
    "wrong",
    [
        {"external_ips": ("here",)},
        {"ingress": ["there"]},
        {"load_balancer_source_ranges": ("10.0.0.0/33",)},
        {"ports": [(80, "a", "TCP", 99999)]},
        {"ports": [(80, "a", "TCP", 30080), (81, "b", "TCP", 30080)]},
    ],
    ids=["externalIP", "ingress", "source range", "node port", "node port twice"],
)
def test_a_way_in_that_cannot_be_read_makes_the_service_invalid(wrong):
    with pytest.raises(model.InvalidService):
        model.service_ports(service(**wrong), "IPv4")


def test_a_range_with_the_node_admits_the_load_balancer():
    world = World()
    made = service(ingress=["203.0.113.2"], load_balancer_source_ranges=("192.0.2.0/24",))
    name = world.put(made, endpoint_slice("web", ["10.244.1.2"]))
    planner = Planner(world, node="node1", family="IPv4", look=seen)
    elements = planner.draft(name, NOT_SERVED).new.state.elements
    allowed = {key[12:] for key in elements["allowed-sources"]}

    assert allowed == {ip_address(text).packed for text in ("192.0.2.0", "203.0.113.2")}
