"""The agent restores the source check of its pods in the kernel, and nothing else."""

import pytest

from cni.host import linux_host
from node.gates import Gates
from tests.cni_plugin import PluginNode

CHECKED = {"sourceCheck": True}


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path)


def sync(node: PluginNode) -> int:
    """One look of the agent; by how much it changed the ruleset's generation."""

    def run() -> int:
        host = linux_host()
        try:
            with host.gates() as nft:
                before = nft.generation()
                Gates("net", node.state, host).sync()
                return nft.generation() - before
        finally:
            host.close()

    return node.namespace.call(run)


def is_sound(node: PluginNode, pod, answer, **changes) -> bool:
    previous = {key: value for key, value in answer.items() if key != "exit"}
    return node.call("CHECK", pod, prevResult=previous, **CHECKED, **changes) == {"exit": 0}


@pytest.mark.parametrize(
    "damage",
    [
        ["flush", "ruleset"],
        ["flush", "chain", "bridge", "podwire-cni", "check-arp"],
        ["flush", "set", "bridge", "podwire-cni", "sources"],
        ["flush", "map", "bridge", "podwire-cni", "guards"],
    ],
    ids=lambda words: words[-1],
)
def test_what_somebody_removed_is_put_back(node, make_namespace, damage):
    pod = make_namespace("pod")
    answer = node.call("ADD", pod, **CHECKED)
    node.namespace.run("nft", *damage)
    assert not is_sound(node, pod, answer)
    sync(node)
    assert is_sound(node, pod, answer)


def test_pod_of_before_the_check_is_checked_from_now_on(node, make_namespace):
    pod = make_namespace("pod")
    answer = node.call("ADD", pod)
    assert not is_sound(node, pod, answer)
    sync(node)
    assert is_sound(node, pod, answer)


def test_whole_gates_and_a_node_without_pods_are_left_alone(node, make_namespace):
    assert sync(node) == 0
    node.call("ADD", make_namespace("pod"), **CHECKED)
    assert sync(node) == 0


def test_limits_of_a_pod_whose_check_is_restored_stay(node, make_namespace):
    pod = make_namespace("pod")
    limited = {"runtimeConfig": {"bandwidth": {"egressRate": 8_000_000, "egressBurst": 8_000_000}}}
    answer = node.call("ADD", pod, **limited)
    assert not is_sound(node, pod, answer, **limited)
    sync(node)
    assert is_sound(node, pod, answer, **limited)
