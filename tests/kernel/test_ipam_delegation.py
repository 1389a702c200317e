"""The reference bridge and ptp with `podwire-ipam` for host-local, executed as a runtime does.

bridge: cni0 has 10.7.0.1 and fd00:7::1, pods follow. ptp: one veth a pod, the same addresses.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from ipam.leases import Leases
from tests import namespaces
from tests.cni_node import environment
from tests.cni_plugin import PluginNode

REFERENCE = Path("/usr/lib/cni")
RANGES = [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd00:7::/64"}]]

pytestmark = pytest.mark.skipif(not (REFERENCE / "bridge").exists(), reason="needs containernetworking-plugins")


@pytest.fixture
def node(tmp_path):
    with namespaces.namespace("node") as place:
        yield PluginNode(place, tmp_path)


@pytest.fixture
def pod():
    with namespaces.namespace("pod") as made:
        yield made


def call(node, main, command, pod, **changes):
    conf = {
        "cniVersion": "1.0.0",
        "name": "reference",
        "type": main,
        "isGateway": True,
        "ipam": {
            "type": "podwire-ipam",
            "dataDir": str(node.state),
            "ranges": RANGES,
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
        **changes,
    }
    environ = environment(command, pod.name, pod.path) | {
        "PATH": os.environ["PATH"],
        "CNI_PATH": f"{REFERENCE}:{node.executable.parent}",
    }
    done = subprocess.run(
        node.namespace.argv(str(REFERENCE / main)), env=environ, input=json.dumps(conf).encode(), capture_output=True
    )
    return {**(json.loads(done.stdout) if done.stdout else {}), "exit": done.returncode}


def held(node):
    with Leases(node.state) as leases:
        return {lease.claim.attachment.container_id: lease.listed for lease in leases.of("reference")}


@pytest.mark.parametrize("main", ["bridge", "ptp"])
def test_whole_life_of_a_pod(node, pod, main):
    result = call(node, main, "ADD", pod)
    assert result["exit"] == 0, result
    assert [ip["address"] for ip in result["ips"]] == ["10.7.0.2/24", "fd00:7::2/64"]
    assert held(node) == {pod.name: "10.7.0.2, fd00:7::2"}
    pod.run("ping", "-n", "-c", "1", "-W", "30", "10.7.0.1")
    assert call(node, main, "CHECK", pod, prevResult=result)["exit"] == 0
    assert call(node, main, "DEL", pod, prevResult=result)["exit"] == 0
    assert held(node) == {}


def test_refusal_reaches_the_runtime_in_our_words(node, pod):
    answer = call(node, "bridge", "ADD", pod, args={"cni": {"ips": ["10.9.9.9"]}})
    assert answer["exit"] == 1
    assert "10.9.9.9 cannot be given: 10.7.0.0/24 gives 10.7.0.1 to 10.7.0.254" in answer["msg"]


def test_agent_and_plugin_alone_share_the_leases(node, pod):
    with node.agent(node.answer):
        call(node, "bridge", "ADD", pod)
    assert call(node, "bridge", "DEL", pod)["exit"] == 0
    assert held(node) == {}
