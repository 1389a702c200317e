"""The plugin under podman with its CNI backend, beside the test of containerd: another runtime, another chain of calls.

Address plan: pods 10.244.1.0/24, gateway .1 on the bridge of a namespace that is the node.
"""

import json

import pytest

from tests import private_machine
from tests.cni_plugin import PluginNode

CONTAINERS = """
[network]
network_backend = "cni"
cni_plugin_dirs = ["{plugins}"]
network_config_dir = "/etc/cni/net.d"
default_network = "net"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
STORAGE = """
[storage]
driver = "vfs"
graphroot = "{directory}/graph"
runroot = "/run/storage"
"""


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path)


@pytest.fixture
def podman(node, tmp_path):
    """Run podman in a machine of its own; what it prints is the answer."""
    with private_machine.machine(node.namespace, tmp_path) as machine:
        plugin = json.loads(node.stdin())
        kept = {key: value for key, value in plugin.items() if key not in {"name", "cniVersion"}}
        conflist = {"cniVersion": "1.0.0", "name": "net", "plugins": [kept]}
        machine.write("/etc/cni/net.d/05-podwire.conflist", json.dumps(conflist))
        (tmp_path / "containers.conf").write_text(CONTAINERS.format(plugins=node.executable.parent))
        (tmp_path / "storage.conf").write_text(STORAGE.format(directory=tmp_path))
        env = {
            "CONTAINERS_CONF": str(tmp_path / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"),
        }

        def run(*argv: str) -> str:
            return machine.run("podman", *argv, env=env)

        run("load", "--input", str(private_machine.image(tmp_path / "image.tar")))
        options = ("--network", "net", "--cgroup-parent", machine.cgroup)
        yield (
            run,
            lambda name, *command: run(
                "run", "--detach", "--name", name, *options, private_machine.IMAGE, "/bin/busybox", *command
            ),
        )


def test_containers_get_addresses_reach_each_other_and_give_them_back(podman, node):
    run, start = podman
    start("server", "sleep", "60")
    (address,) = node.leased().values()
    start("client", "ping", "-c", "1", "-W", "5", address)
    assert run("wait", "client").strip() == "0"
    run("rm", "--force", "--time", "0", "server", "client")
    assert (address, node.leased(), node.veths()) == ("10.244.1.2", {}, [])
