"""The plugin under podman with its CNI backend, beside the tests of containerd: another runtime, another chain of calls.

Address plan: pods 10.244.1.0/24, gateway .1 on the bridge of a namespace that is the node, which is 192.0.2.1 to its
neighbour, 192.0.2.2.
"""

import json

import pytest

from lab.images import names, oci, own
from tests import private_machine
from tests.cni_plugin import PluginNode
from tests.waiting import eventually

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
    return PluginNode(make_namespace("node"), tmp_path, {"capabilities": {"portMappings": True}})


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

        (echo,) = (image for image in own.images() if image.name == names.ECHO)
        (tmp_path / "echo.tar").write_bytes(oci.archive([echo]))
        run("load", "--input", str(tmp_path / "echo.tar"))
        options = ("--network", "net", "--cgroup-parent", machine.cgroup)
        yield (run, lambda name, *argv: run("run", "--detach", "--name", name, *options, *argv))
        assert machine.run("sh", "-c", "ls /run/netns").split() == []


def ask(source, address, port=8080):
    """What the echo program says to a client in a namespace; empty while it does not answer."""
    return source.run("curl", "--silent", "--max-time", "2", f"http://{address}:{port}/", check=False)


def remove(run, *containers):
    run("rm", "--force", "--time", "0", *containers)


def test_containers_get_addresses_talk_and_give_them_back(podman, node):
    run, start = podman
    start("server", "--env", "POD_NAME=server", names.ECHO)
    (address,) = node.leased().values()
    eventually(lambda: ask(node.namespace, address))

    start("client", "--entrypoint", "wget", names.ECHO, "-qO-", f"http://{address}:8080/")

    assert run("wait", "client").strip() == "0"
    eventually(lambda: '"pod": "server"' in run("logs", "client"))
    remove(run, "server", "client")
    assert (address, node.leased(), node.veths()) == ("10.244.1.2", {}, [])


def test_a_container_lives_through_stop_start_and_removal(podman, node):
    run, start = podman
    start("server", names.ECHO)
    run("stop", "--time", "60", "server")
    assert (node.leased(), node.veths()) == ({}, [])

    run("start", "server")

    (address,) = node.leased().values()
    assert eventually(lambda: ask(node.namespace, address))
    remove(run, "server")
    assert (node.leased(), node.veths()) == ({}, [])


def test_a_hostport_leads_into_the_container_from_outside_and_goes_with_it(podman, node, make_namespace):
    run, start = podman
    outside = make_namespace("outside")
    node.namespace.run("ip", "link", "add", "out", "type", "veth", "peer", "eth0", "netns", outside.name)
    for namespace, device, address in ((node.namespace, "out", "192.0.2.1/24"), (outside, "eth0", "192.0.2.2/24")):
        namespace.run("ip", "address", "add", address, "dev", device)
        namespace.run("ip", "link", "set", device, "up")
    start("server", "--publish", "9090:8080", names.ECHO)

    answer = eventually(lambda: ask(outside, "192.0.2.1", 9090))

    assert json.loads(answer)["client"].partition(":")[0] == "192.0.2.2"
    remove(run, "server")
    assert ask(outside, "192.0.2.1", 9090) == ""
    assert "9090" not in node.namespace.run("nft", "list", "ruleset")
