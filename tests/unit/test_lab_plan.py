"""A lab worked out on paper.

Address plan: underlay 172.30.0.0/24, its bridge .1, node N .10+N; pods 10.244.0.0/16; Services 10.96.0.0/16.
"""

from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path

import click
import pytest

import api.__main__
import lab.runner.__main__
import node.__main__
import proxy.__main__
from lab import networks, plan
from lab.errors import OptionError
from lab.plan import Lab

SERVICES = {"service_cidrs": (networks.SERVICE_CIDR, networks.SERVICE_CIDR6)}
LAB = Lab(name="blue", directory=Path("/var/lib/podwire/labs/blue"), node_count=3, api_port=6443)
PROGRAMS = {
    "api": api.__main__.main,
    "node": node.__main__.main,
    "proxy": proxy.__main__.main,
    "lab.runner": lab.runner.__main__.main,
}


def test_nodes_have_names_namespaces_and_addresses_in_order():
    assert [(each.name, each.namespace) for each in LAB.nodes] == [
        ("node1", "pw-blue-node1"),
        ("node2", "pw-blue-node2"),
        ("node3", "pw-blue-node3"),
    ]
    assert IPv4Interface("172.30.0.11/24") == LAB.nodes[0].address


def test_in_a_dual_stack_lab_both_addresses_of_a_node_look_alike():
    dual = plan.validate(replace(LAB, cluster_cidrs=(networks.CLUSTER_CIDR, networks.CLUSTER_CIDR6), **SERVICES))
    assert IPv6Interface("fd00:172:30::11/64") == dual.nodes[0].address6
    assert all(each.address6 is None for each in LAB.nodes)


def test_the_largest_lab_fits_its_underlay():
    largest = plan.validate(replace(LAB, node_count=plan.MAX_NODES))

    addresses = {each.address for each in largest.nodes}
    assert len(addresses) == plan.MAX_NODES
    assert all(address.ip in networks.UNDERLAY for address in addresses)


def test_no_two_nodes_share_a_folder_or_a_socket():
    assert len({each.directory for each in LAB.nodes}) == len({each.socket for each in LAB.nodes}) == 3


def test_a_lab_is_one_api_server_and_three_processes_a_node():
    names = [component.name for component in plan.components(LAB, "python")]

    assert names[:4] == ["api", "node1/agent", "node1/proxy", "node1/runner"]
    assert len(names) == 1 + 3 * 3


@pytest.mark.parametrize("component", plan.components(LAB, "python"), ids=lambda each: each.name)
def test_every_program_accepts_the_flags_it_is_started_with(component, tmp_path):
    module, *flags = component.argv[3:]
    context = click.Context(PROGRAMS[module])

    PROGRAMS[module].make_parser(context).parse_args(flags)


def test_only_the_api_server_gets_a_socket_and_nothing_else_starts_without_its_kubeconfig():
    server, *others = plan.components(LAB, "python")

    assert server.listener is not None
    assert server.needs is None
    assert all(each.listener is None and each.needs == LAB.node_kubeconfig for each in others)


@pytest.mark.parametrize("name", ["", "Lab", "1st", "two-words", "a" * 13, "dot.ted", "sl/ash", "ünicode", "lab\n"])
def test_a_name_that_cannot_be_a_lab_is_refused_by_name(name):
    with pytest.raises(OptionError) as refused:
        plan.validate_name(name)
    assert f"--name {name}" in str(refused.value)


@pytest.mark.parametrize("count", [0, -1, plan.MAX_NODES + 1])
def test_a_node_count_out_of_range_is_refused(count):
    with pytest.raises(OptionError, match=f"--nodes {count}"):
        plan.validate(replace(LAB, node_count=count))


@pytest.mark.parametrize(
    ("option", "changes"),
    [
        ("--cluster-cidr", {"cluster_cidrs": (IPv4Network("10.0.0.0/23"),)}),
        ("--cluster-cidr", {"cluster_cidrs": (IPv4Network("10.0.0.0/25"),)}),
        ("--cluster-cidr", {"cluster_cidrs": (IPv4Network("172.16.0.0/12"),)}),
        ("--service-cidr", {"service_cidrs": (IPv4Network("172.30.0.128/25"),)}),
        ("--service-cidr", {"service_cidrs": (IPv4Network("10.244.128.0/20"),)}),
        ("--cluster-cidr", {"cluster_cidrs": (networks.CLUSTER_CIDR, IPv6Network("fd00:1::/63")), **SERVICES}),
        ("--cluster-cidr", {"cluster_cidrs": (networks.CLUSTER_CIDR, IPv6Network("fd00:172::/32")), **SERVICES}),
        ("--cluster-cidr", {"cluster_cidrs": (networks.CLUSTER_CIDR6, networks.CLUSTER_CIDR), **SERVICES}),
        ("--service-cidr", SERVICES),
    ],
    ids=[
        "too small for three nodes",
        "smaller than a node",
        "over the underlay",
        "in the underlay",
        "in the pods",
        "IPv6 too small for three nodes",
        "IPv6 over the underlay",
        "IPv6 first",
        "families that differ",
    ],
)
def test_networks_that_cannot_work_are_refused_by_option(option, changes):
    with pytest.raises(OptionError) as refused:
        plan.validate(replace(LAB, **changes))
    assert option == refused.value.option


def test_a_state_root_too_deep_for_unix_sockets_is_refused():
    deep = Path("/tmp") / ("d" * 60) / ("e" * 30) / "blue"

    with pytest.raises(OptionError, match="--state-root"):
        plan.validate(replace(LAB, directory=deep))


def test_labs_look_for_a_port_in_places_of_their_own():
    folders = [Path(f"/var/lib/podwire/labs/{name}") for name in ("lab", "a", "b", "c", "d", "e")]

    ports = {plan.first_api_port(folder) for folder in folders}

    assert len(ports) == len(folders)
    assert all(1024 < port < 16384 for port in ports)


def test_a_lab_with_containers_has_a_machine_and_a_containerd_on_each_node(tmp_path):
    lab = Lab(name="a", directory=tmp_path, node_count=1, api_port=6443, runtime="containerd")

    names = [each.name for each in plan.components(lab, "python")]

    assert names[1:] == ["node1/agent", "node1/proxy", "node1/machine", "node1/containerd", "node1/runner"]
    assert "--no-pull" in plan.components(lab, "python")[-1].argv


def test_a_containerds_second_socket_must_fit_the_kernel_too():
    root = Path("/" + "x" * 82)
    lab = Lab(name="a", directory=root, node_count=1, api_port=6443)
    assert plan.validate(lab) == lab

    with pytest.raises(OptionError, match="ttrpc"):
        plan.validate(replace(lab, runtime="containerd"))
