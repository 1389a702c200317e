"""A DEL after everything that was written down is gone: the kernel alone says what the pod had."""

import shutil

import pytest

from tests import cni_checker
from tests.bench.cni_place import agent
from tests.cni_plugin import PluginNode

WIRED = {
    "ipMasq": True,
    "sourceCheck": True,
    "runtimeConfig": {
        "portMappings": [{"hostPort": 8080, "containerPort": 80}],
        "bandwidth": {"egressRate": 8_000_000, "egressBurst": 8_000_000},
    },
}


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path, WIRED)


def lose_everything_and_delete(node: PluginNode, pod) -> None:
    assert node.execute("ADD", pod)["exit"] == 0
    assert cni_checker.violations(node.namespace, node.state, [pod]) == []
    shutil.rmtree(node.state)
    assert node.execute("DEL", pod) == {"exit": 0}
    assert cni_checker.violations(node.namespace, node.state, []) == []
    assert "eth0" not in pod.run("ip", "-brief", "link")


def test_delete_by_an_agent_that_lost_its_disk_leaves_nothing(node, make_namespace):
    with agent(node.namespace, node.socket_path):
        lose_everything_and_delete(node, make_namespace("pod"))


def test_delete_without_agent_and_disk_leaves_nothing(node, make_namespace):
    lose_everything_and_delete(node, make_namespace("pod"))
