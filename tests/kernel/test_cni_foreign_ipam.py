"""podwire's wiring with the reference IPAM plugins' addresses, executed as a runtime does.

Address plan: host-local 10.244.7.0/24; static 10.244.8.5/24 with gateway .1.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cni_node import environment
from tests.cni_plugin import PluginNode
from tests.namespaces import namespace

REFERENCE = "/usr/lib/cni"


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path)


def host_local(node: PluginNode, **changes):
    ranges = [[{"subnet": "10.244.7.0/24"}]]
    return {"type": "host-local", "dataDir": str(node.directory / "host-local"), "ranges": ranges, **changes}


def execute(node: PluginNode, command: str, pod, **changes):
    environ = environment(command, pod.name, pod.path) | {"CNI_PATH": REFERENCE, "PATH": os.environ["PATH"]}
    argv = node.namespace.argv(str(node.executable))
    done = subprocess.run(argv, env=environ, input=node.stdin(**changes), capture_output=True, timeout=250)
    return {**(json.loads(done.stdout) if done.stdout else {}), "exit": done.returncode}


def reserved(node: PluginNode) -> list[str]:
    return sorted(path.name for path in (node.directory / "host-local" / "net").glob("10.*"))


def test_host_local_gives_and_takes_back(node, make_namespace):
    pod, ipam = make_namespace("pod"), host_local(node)
    answer = execute(node, "ADD", pod, ipam=ipam)
    assert (answer["ips"][0]["address"], reserved(node)) == ("10.244.7.2/24", ["10.244.7.2"])
    del answer["exit"]
    assert execute(node, "CHECK", pod, ipam=ipam, prevResult=answer) == {"exit": 0}
    assert execute(node, "DEL", pod, ipam=ipam) == {"exit": 0}
    assert (reserved(node), node.leased(), node.veths()) == ([], {}, [])


def test_host_local_lets_go_when_the_namespace_is_gone(node):
    with namespace("gone") as gone:
        execute(node, "ADD", gone, ipam=host_local(node))
    assert execute(node, "DEL", gone, ipam=host_local(node)) == {"exit": 0}
    assert (reserved(node), node.leased()) == ([], {})


def test_host_local_lets_go_when_the_wiring_fails(node, make_namespace):
    ipam = host_local(node, routes=[{"dst": "192.0.2.0/24", "gw": "198.51.100.1"}])
    assert execute(node, "ADD", make_namespace("pod"), ipam=ipam)["code"] == 104
    assert (reserved(node), node.leased(), node.veths()) == ([], {}, [])


def test_an_add_that_was_killed_after_host_local_had_given_can_be_repeated(node, make_namespace):
    pod, ipam = make_namespace("pod"), host_local(node)
    environ = environment("ADD", pod.name, pod.path) | {"CNI_PATH": REFERENCE}
    subprocess.run([Path(REFERENCE) / "host-local"], env=environ, input=node.stdin(ipam=ipam), check=True, stdout=-3)
    assert execute(node, "ADD", pod, ipam=ipam)["exit"] == 0
    assert len(reserved(node)) == 1


def test_static_addresses_are_wired_as_written(node, make_namespace):
    pod = make_namespace("pod")
    ipam = {"type": "static", "addresses": [{"address": "10.244.8.5/24", "gateway": "10.244.8.1"}]}
    answer = execute(node, "ADD", pod, ipam=ipam)
    assert answer["ips"][0]["address"] == "10.244.8.5/24"
    assert pod.run("ping", "-c1", "-W30", "10.244.8.1")
