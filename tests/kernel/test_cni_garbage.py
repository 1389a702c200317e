"""What the agent collects by itself, with real namespaces: only /proc and the kernel say who lives."""

import os

import pytest

from cni.host import linux_host
from dataplane import living_namespaces
from node.garbage import GarbageCollector
from tests.cni_plugin import PluginNode
from tests.namespaces import namespace
from tests.waiting import eventually


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path)


def collect(node: PluginNode, looks: int = 3) -> list[str]:
    """Look several times in the node's namespace, with more than patience between; the addresses freed."""
    clock = iter(range(0, 1000, 60))

    def run() -> list[str]:
        host = linux_host()
        try:
            collector = GarbageCollector("net", node.state, host, clock=lambda: next(clock))
            return [str(lease.address) for _ in range(looks) for lease in collector.sync()]
        finally:
            host.close()

    return node.namespace.call(run)


def test_a_living_pod_keeps_its_lease_although_its_veth_was_renamed(node, make_namespace):
    answer = node.call("ADD", make_namespace("pod"))
    veth = answer["interfaces"][1]["name"]
    # Before Linux 6.2 no link is renamed while it is up.
    for change in ([veth, "down"], [veth, "name", "renamed"], ["renamed", "up"]):
        node.namespace.run("ip", "link", "set", *change)
    assert collect(node) == []
    assert list(node.leased().values()) == ["10.244.1.2"]


def test_a_vanished_pod_is_freed_while_its_neighbour_is_not(node, make_namespace):
    # An address that pods of no other test have: the number of the namespace that is gone may soon be that of theirs.
    ipam = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.17.1.0/24"}]]}
    with namespace("gone") as gone:
        node.call("ADD", gone, ipam=ipam)
    # The kernel takes a namespace apart some time after its last user has gone.
    eventually(lambda: node.veths() == [])
    node.call("ADD", make_namespace("pod"), ipam=ipam)
    assert collect(node) == ["10.17.1.2"]


def test_a_namespace_without_a_process_is_found_by_its_mount(make_namespace):
    pod = make_namespace("pod")
    found = os.stat(pod.path)
    assert os.stat(living_namespaces.living()[found.st_dev, found.st_ino]).st_ino == found.st_ino


def test_gc_by_the_executable_leaves_what_the_runtime_names(node, make_namespace):
    kept, stale = make_namespace("kept"), make_namespace("stale")
    for number, pod in enumerate((kept, stale)):
        mapping = {"hostPort": 8080 + number, "containerPort": 80}
        node.call("ADD", pod, runtimeConfig={"portMappings": [mapping]})
    valid = {"cni.dev/valid-attachments": [{"containerID": kept.name, "ifname": "eth0"}]}
    assert node.execute("GC", kept, cniVersion="1.1.0", **valid) == {"exit": 0}
    assert (list(node.leased()), len(node.veths())) == ([kept.name], 1)
    listing = node.namespace.run("nft", "list", "table", "ip", "podwire-cni")
    assert ("8080" in listing, "8081" in listing) == (True, False)


def test_status_by_the_executable_is_silent_or_code_50(node, make_namespace):
    pod, ipam = make_namespace("pod"), {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/30"}]]}
    assert node.execute("STATUS", pod, cniVersion="1.1.0", ipam=ipam) == {"exit": 0}
    node.call("ADD", pod, ipam=ipam)
    assert node.execute("STATUS", pod, cniVersion="1.1.0", ipam=ipam)["code"] == 50
