"""The plugin under containerd: `ctr run --cni` starts containers, and only the plugin gives them a network.

Address plan: pods 10.244.1.0/24, gateway .1 on the bridge of a namespace that is the node.
"""

import itertools
import json
import subprocess

import pytest

from tests import private_machine
from tests.cni_plugin import PluginNode
from tests.waiting import eventually

CONFIG = """
version = 2
root = "{directory}/root"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "/run/containerd.sock"
"""
CTR = ("ctr", "--address", "/run/containerd.sock")
RUN = ("run", "--cni", "--rm", "--snapshotter", "native")


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path)


@pytest.fixture
def machine(node, tmp_path):
    """containerd, with the plugin where it looks for plugins and an image to run."""
    with private_machine.machine(node.namespace, tmp_path) as made:
        plugin = json.loads(node.stdin())
        made.write("/etc/cni/net.d/05-podwire.conflist", json.dumps(conflist(plugin)))
        made.run("mkdir", "-p", "/opt/cni/bin")
        made.run("ln", "-s", str(node.executable), "/opt/cni/bin/podwire")
        (tmp_path / "config.toml").write_text(CONFIG.format(directory=tmp_path))
        made.start("containerd", "--config", str(tmp_path / "config.toml"), log=tmp_path / "containerd.log")
        eventually(lambda: is_serving(made), within=60)
        image = private_machine.image(tmp_path / "image.tar")
        made.run(*CTR, "images", "import", "--snapshotter", "native", str(image))
        yield made


def conflist(plugin):
    kept = {key: value for key, value in plugin.items() if key not in {"name", "cniVersion"}}
    return {"cniVersion": "1.0.0", "name": plugin["name"], "plugins": [kept]}


def is_serving(made) -> bool:
    return subprocess.run(made.argv(*CTR, "version"), capture_output=True, timeout=60).returncode == 0


def run_container(machine, tmp_path, name, *command):
    """Start a container; ctr stays until it ends, and then takes its network away."""
    options = ("--cgroup", f"{machine.cgroup}/{name}")
    return machine.start(
        *CTR, *RUN, *options, private_machine.IMAGE, name, "/bin/busybox", *command, log=tmp_path / f"{name}.log"
    )


def end_container(machine, process, name):
    """A container has its network, and so its lease, before it runs and can be killed."""
    eventually(lambda: is_running(machine, name))
    machine.run(*CTR, "tasks", "kill", "--signal", "SIGKILL", name)
    process.wait(60)


def is_running(machine, name) -> bool:
    tasks = [line.split() for line in machine.run(*CTR, "tasks", "list").splitlines()]
    return [name, "RUNNING"] in [[task[0], task[-1]] for task in tasks]


def leased(node, name) -> str:
    """The container's address; containerd prefixes its id with its own namespace."""
    return node.leased().get(f"default-{name}", "")


def test_containers_get_addresses_reach_each_other_and_give_them_back(machine, node, tmp_path):
    server = run_container(machine, tmp_path, "server", "sleep", "60")
    address = eventually(lambda: leased(node, "server"))
    assert address == "10.244.1.2"
    # It has its lease before its network is complete.
    eventually(lambda: is_running(machine, "server"))
    client = run_container(machine, tmp_path, "client", "ping", "-c", "1", "-W", "5", address)
    assert client.wait(250) == 0, (tmp_path / "client.log").read_text()
    assert node.leased() == {"default-server": address}
    end_container(machine, server, "server")
    assert (node.leased(), node.veths()) == ({}, [])


def test_agent_serves_a_runtime_in_other_process_and_mount_namespaces(machine, node, tmp_path):
    """The path in CNI_NETNS, /proc/<pid>/ns/net, means another process to the agent: only the descriptor is right."""
    answered = []

    def answer(connection):
        node.answer(connection)
        answered.append(True)

    with node.agent(answer):
        container = run_container(machine, tmp_path, "server", "sleep", "60")
        address = eventually(lambda: leased(node, "server"))
        eventually(lambda: is_running(machine, "server"))
        # ctr may end before it has passed on the last words of a command.
        numbers = itertools.count()
        look = ("server", "/bin/busybox", "ip", "address")
        eventually(
            lambda: (
                f"inet {address}/24" in machine.run(*CTR, "tasks", "exec", "--exec-id", f"look-{next(numbers)}", *look)
            )
        )
        end_container(machine, container, "server")
    assert (len(answered), node.leased(), node.veths()) == (2, {}, [])
