"""A lab whose pods are containers: one containerd a node, the same promises, and nothing left of it."""

import contextlib
from pathlib import Path

import pytest

from tests.lab.cluster import Lab, ask, await_endpoints, echo_pod, kill, service
from tests.namespaces import Namespace
from tests.private_machine import groups
from tests.waiting import eventually

SPACE = "default"


@pytest.fixture(scope="module")
def lab():
    made = Lab("c")
    try:
        made.up("--nodes", "2", "--runtime", "containerd")
        made.apply(
            service("web", SPACE), *(echo_pod(f"web-{number}", SPACE, node=f"node{number}") for number in (1, 2))
        )
        ready(made)
        yield made
    finally:
        made.destroy()
    assert (made.namespaces(), made.pids(), made.root.exists()) == ([], [], False)
    assert groups(f"pw-{made.name}") == []
    assert str(made.directory) not in Path("/proc/mounts").read_text()


def ready(lab) -> dict[str, str]:
    """Wait until both pods are ready; return their addresses."""

    def complete():
        pods = lab.get("pods", "--namespace", SPACE)["items"]
        statuses = {pod["metadata"]["name"]: pod["status"] for pod in pods}
        are_ready = [all(each["ready"] for each in status.get("containerStatuses", ())) for status in statuses.values()]
        leased = sorted(address for node in ("node1", "node2") for address in lab.leases(node))
        addresses = {name: status.get("podIP", "") for name, status in statuses.items()}
        return addresses if are_ready == [True, True] and leased == sorted(addresses.values()) else None

    return eventually(complete, within=120, every=0.1)


def daemon(lab, node) -> int:
    """The pid of a node's containerd, as the machine sees it; a younger one is about to become another program."""
    found, *_ = [pid for pid in lab.pids(f"{node}/containers") if command(pid) == "containerd"]
    return found


def command(pid: int) -> str:
    with contextlib.suppress(OSError):  # it may have ended
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def test_pods_answer_across_nodes_and_services_in_strict_turn(lab):
    addresses = ready(lab)

    assert ask(lab.node("node1"), addresses["web-2"]).pod == "web-2"
    await_endpoints(lab.node("node1"), lab.cluster_ip(SPACE, "web"), {"web-1", "web-2"})


def test_a_pod_is_a_container_and_the_labs_commands_know_it(lab):
    addresses = ready(lab)

    listed = lab.run("pods").stdout
    assert all(address in listed for address in addresses.values())
    inside = lab.run("exec", "web-1", "--", "ip", "-4", "address").stdout
    assert addresses["web-1"] in inside
    assert "(deleted)" not in lab.run("logs", "web-1").stdout
    assert "yes    1" in lab.run("status").stdout


def test_killing_containerd_hurts_no_pod(lab):
    addresses = ready(lab)

    kill(daemon(lab, "node1"))

    assert ask(lab.node("node2"), addresses["web-1"]).pod == "web-1"
    eventually(lambda: daemon_runs(lab), every=0.1)
    assert ready(lab) == addresses
    assert lab.get("pod", "web-1", "--namespace", SPACE)["status"]["containerStatuses"][0]["restartCount"] == 0


def daemon_runs(lab) -> bool:
    try:
        return bool(daemon(lab, "node1"))
    except (ValueError, OSError):
        return False


def test_a_node_whose_machine_died_gets_its_pods_back_and_leaks_no_lease(lab):
    before = ready(lab)

    for pid in lab.pids("node1/machine"):
        kill(pid)

    after = eventually(lambda: (found := ready(lab))["web-1"] != before["web-1"] and found, within=120)
    assert after["web-2"] == before["web-2"]
    eventually(lambda: len(lab.host_veths("node1")) == 1)


def test_a_hostport_of_a_pod_is_reached_from_another_node(lab):
    pod = echo_pod("door", SPACE, node="node1", app="door")
    pod["spec"]["containers"][0]["ports"][0]["hostPort"] = 9191
    lab.apply(pod)

    def answers(source: Namespace):
        try:
            return ask(source, "172.30.0.11", 9191, seconds=2).pod
        except OSError:
            return None

    assert eventually(lambda: answers(lab.node("node2")), every=0.1) == "door"
    lab.kubectl("delete", "pod", "door", "--namespace", SPACE)
    eventually(lambda: answers(lab.node("node2")) is None)


def test_a_lab_keeps_the_runtime_it_was_made_with(lab):
    refused = lab.run("up", "--runtime", "processes", check=False)

    assert refused.returncode != 0
    assert "was made with containerd" in refused.stderr + refused.stdout


def test_an_image_a_node_does_not_have_is_named(lab):
    pod = echo_pod("odd", SPACE, node="node1", app="odd", containers=[{"name": "main", "image": "nginx:1.27"}])
    lab.apply(pod)

    def reason():
        status = lab.get("pod", "odd", "--namespace", SPACE)["status"]
        return status.get("containerStatuses", [{}])[0].get("state", {}).get("waiting", {}).get("reason")

    assert eventually(reason, every=0.1) in {"ContainerCreating", "ErrImageNeverPull"}
    eventually(lambda: reason() == "ErrImageNeverPull", every=0.1)
    lab.kubectl("delete", "pod", "odd", "--namespace", SPACE)
