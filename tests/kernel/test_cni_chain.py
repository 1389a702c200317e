"""podwire in one chain with the reference plugins, run as a runtime runs it: each passes on what the earlier ones made.

Address plan: pods 10.244.1.0/24, gateway .1 on the node; outside 192.0.2.2, node 192.0.2.1, hostPort 8080.
"""

import json
import shutil
import socket
from pathlib import Path

import pytest

from cni import invoke
from tests.cni_node import netconf
from tests.cni_plugin import PluginNode
from tests.namespaces import connect

OUTSIDE, NODE = "192.0.2.2", "192.0.2.1"
HOST_PORT, PORT = 8080, 7000
REFERENCE = "/usr/lib/cni"


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path)


class Chain:
    """A network of several plugins and one pod; each verb is run inside the node."""

    def __init__(self, node: PluginNode, pod, plugins, **capabilities) -> None:
        conflist = {"cniVersion": "1.0.0", "name": "net", "plugins": plugins}
        self.node, self.pod = node, pod
        self.network = invoke.parse_network(json.dumps(conflist).encode(), node.directory)
        bins = [node.executable.parent, Path(REFERENCE)]
        self.runtime = invoke.Runtime(bins, node.directory / "results")
        self.sandbox = invoke.Sandbox(container_id="web", netns=pod.path, capabilities=capabilities)

    def run(self, verb):
        return self.node.namespace.call(lambda: getattr(self.runtime, verb)(self.network, self.sandbox))


def ours(node: PluginNode, **changes):
    return netconf(node.state, **changes)


def test_a_plugin_before_and_one_after_see_one_growing_result(node, make_namespace):
    pod = make_namespace("pod")
    tuning = {"type": "tuning", "sysctl": {"net.core.somaxconn": "777"}, "mac": "02:00:00:00:00:09"}
    chain = Chain(node, pod, [{"type": "loopback"}, ours(node), tuning])
    answer = chain.run("add")
    assert [interface["name"] for interface in answer["interfaces"]][::3] == ["lo", "eth0"]
    assert [ip["address"] for ip in answer["ips"]] == ["127.0.0.1/8", "::1/128", "10.244.1.2/24"][-len(answer["ips"]) :]
    assert pod.run("sysctl", "-n", "net.core.somaxconn").strip() == "777"


def test_check_accepts_what_a_later_plugin_changed_and_delete_leaves_nothing(node, make_namespace):
    pod = make_namespace("pod")
    chain = Chain(node, pod, [ours(node), {"type": "tuning", "mac": "02:00:00:00:00:09"}])
    before = pod.run("ip", "-brief", "link")
    chain.run("add")
    chain.run("check")
    chain.run("delete")
    assert (node.leased(), node.veths(), pod.run("ip", "-brief", "link")) == ({}, [], before)


@pytest.mark.skipif(not shutil.which("iptables"), reason="the reference portmap needs iptables")
def test_the_reference_portmap_after_podwire_reaches_the_pod_from_outside(node, make_namespace):
    pod, outside = make_namespace("pod"), make_namespace("outside")
    connect(node.namespace, f"{NODE}/24", outside, f"{OUTSIDE}/24", device="uplink")
    mapping = {"hostPort": HOST_PORT, "containerPort": PORT, "protocol": "tcp"}
    portmap = {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}}
    chain = Chain(node, pod, [ours(node), portmap], portMappings=[mapping])
    chain.run("add")
    with pod.call(lambda: socket.create_server(("", PORT))) as listener:
        listener.settimeout(30)
        with outside.call(lambda: socket.create_connection((NODE, HOST_PORT), timeout=30)):
            connection, peer = listener.accept()
            connection.close()
    assert peer[0] == OUTSIDE


def test_a_refusal_of_a_later_plugin_takes_ours_back(node, make_namespace):
    chain = Chain(node, make_namespace("pod"), [ours(node), {"type": "tuning", "mac": "not a MAC"}])
    with pytest.raises(invoke.PluginFailed):
        chain.run("add")
    assert (node.leased(), node.veths()) == ({}, [])
