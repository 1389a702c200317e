"""The life of labs: side by side, repaired, after a reboot, and gone without a trace."""

import os
import subprocess

from tests.lab.cluster import ask, echo_pod, kill
from tests.waiting import eventually


def test_a_second_shell_sees_nodes_components_and_pods(lab, space):
    lab.apply(echo_pod("web", space, node="node2"))
    pod = lab.ready_pods(space, 1)["web"]

    status = lab.run("status").stdout
    for words in ("node1", "172.30.0.12", "node3/proxy", "supervisor", *map(str, lab.pids("api"))):
        assert words in status
    assert any(line.split()[:4] == [space, "web", "node2", pod.address] for line in lab.run("pods").stdout.splitlines())


def test_exec_enters_nodes_pods_and_the_underlay_and_hands_back_exit_codes(lab, space):
    lab.apply(echo_pod("web", space, node="node2"))
    pod = lab.ready_pods(space, 1)["web"]

    assert pod.address in lab.run("exec", f"{space}/web", "--", "ip", "-4", "address").stdout
    assert "172.30.0.12/24" in lab.run("exec", "node2", "--", "ip", "-4", "address").stdout
    assert "172.30.0.1/24" in lab.run("exec", "underlay", "--", "ip", "-4", "address").stdout
    assert lab.run("exec", "node1", "--", "sh", "-c", "exit 7", check=False).returncode == 7


def test_exec_of_something_unknown_says_what_there_is(lab):
    refused = lab.run("exec", "node9", "--", "true", check=False)

    assert refused.returncode == 1
    assert "node9" in refused.stderr
    assert "node1, node2, node3" in refused.stderr


def test_kubectl_through_the_lab_needs_no_configuration(lab):
    assert "node3" in lab.run("kubectl", "get", "nodes").stdout


def test_a_stopped_component_is_shown_and_stays_stopped_until_started(lab):
    with lab.stopped("node3/proxy"):
        status = lab.run("status", check=False)
        assert status.returncode == 1
        assert any("node3/proxy" in line and "stopped" in line for line in status.stdout.splitlines())

    eventually(lambda: lab.run("status", check=False).returncode == 0, every=0.1)


def test_a_node_whose_agent_is_stopped_is_not_lost_while_its_pods_are_tended(lab):
    def renewed() -> str:
        return lab.get("lease", "node3", "--namespace", "kube-node-lease")["spec"]["renewTime"]

    with lab.stopped("node3/agent"):
        last_of_the_agent = renewed()
        eventually(lambda: renewed() > last_of_the_agent, within=60, every=0.5)


def test_up_of_a_running_lab_changes_nothing(lab):
    before = lab.components()

    assert "nothing to repair" in lab.up()
    assert lab.components() == before
    assert len(before) == 2 + 3 * len(lab.nodes())


def test_up_repairs_what_somebody_broke_and_says_what(lab, space):
    lab.apply(echo_pod("web", space, node="node2"))
    before = lab.ready_pods(space, 1)["web"]
    lab.underlay.run("ip", "link", "delete", "node3")
    subprocess.run(["ip", "netns", "delete", lab.node("node2").name], check=True)

    said = lab.up()

    assert "link of node3" in said
    assert f"namespace {lab.node('node2').name}" in said
    pod = made_again(lab, space, before)
    eventually(lambda: answers(lab.node("node3"), pod) == "web", every=0.1)
    lab.assert_no_address_is_double_or_leaked()


def made_again(lab, space, before):
    """The pod in the sandbox that takes the place of the one it had before."""
    return eventually(
        lambda: (pod := lab.ready_pods(space, 1)["web"]).netns != before.netns and pod, within=60, every=0.1
    )


def answers(source, pod):
    try:
        return ask(source, pod.address, seconds=2).pod
    except OSError:
        return ""


def test_two_labs_live_side_by_side_and_the_end_of_one_does_not_touch_the_other(lab, make_lab, space):
    other = make_lab("o")
    other.up("--nodes", "1")
    lab.apply(echo_pod("web", space, node="node1"))
    pod = lab.ready_pods(space, 1)["web"]
    assert [each["metadata"]["name"] for each in other.get("nodes")["items"]] == ["node1"]

    other.run("down")

    assert other.namespaces() == []
    assert other.pids() == []
    assert not other.directory.exists()
    assert ask(lab.node("node2"), pod.address).pod == "web"
    assert lab.run("status").returncode == 0


def test_a_lab_grows(make_lab):
    made = make_lab("g")
    made.up("--nodes", "1")

    assert "added: node2" in made.up("--nodes", "2")
    assert len(made.get("nodes")["items"]) == 2


def test_after_a_reboot_up_brings_the_pods_back_and_leaks_nothing(make_lab):
    made = make_lab("r")
    made.up("--nodes", "1")
    made.apply(echo_pod("web", "default", node="node1"))
    before = made.ready_pods("default", 1)["web"]
    reboot(made)

    made.up()

    after = made_again(made, "default", before)
    assert ask(made.node("node1"), after.address).pod == "web"
    eventually(lambda: made.leases("node1") == [after.address], every=0.1)


def test_after_a_reboot_down_leaves_nothing(make_lab):
    made = make_lab("d")
    made.up("--nodes", "1")
    reboot(made)

    made.run("down")

    assert made.namespaces() == []
    assert not made.directory.exists()


def reboot(lab):
    """What a reboot leaves where /run is a disk: files, among them names of namespaces with nothing behind them."""
    lab.kill("supervisor")
    for pid in lab.pids():
        kill(pid)
    for name in lab.namespaces():
        subprocess.run(["umount", f"/run/netns/{name}"], check=True)


def test_down_removes_a_lab_whose_file_is_damaged_and_whose_supervisor_is_dead(make_lab):
    made = make_lab("x")
    made.up("--nodes", "1")
    made.kill("supervisor")
    (made.directory / "lab.json").write_text("{")
    with made.node("node1").start("sleep", "300") as shell:
        try:
            eventually(lambda: str(shell.pid) in ip_netns_pids(made.node("node1")))
            assert "is damaged" in made.run("status", check=False).stderr

            made.run("down")

            assert (made.namespaces(), made.pids()) == ([], [])
            assert not made.directory.exists()
            assert shell.wait(timeout=60) == -9
        finally:
            shell.kill()


def ip_netns_pids(namespace):
    return subprocess.run(["ip", "netns", "pids", namespace.name], capture_output=True, text=True).stdout.split()


def test_a_name_taken_on_this_machine_is_refused_with_its_owner(lab, make_lab):
    twin = make_lab("t")
    twin.name = lab.name
    twin.directory = twin.root / lab.name

    for command in ("up", "down"):
        refused = twin.run(command, check=False)
        assert refused.returncode == 1
        assert str(lab.directory) in refused.stderr
    assert os.listdir(twin.root) == []
    twin.name = "unused"


def test_the_demo_keeps_its_promises_twice(lab):
    try:
        for _ in range(2):
            # One of them is about a second, which a busy machine may not have.
            assert "podwire lab down" in eventually(lambda: kept_promises(lab), within=120)
    finally:
        lab.kubectl("delete", "namespace", "demo", "--wait=false", "--ignore-not-found")


def kept_promises(lab):
    """What the demo shows, or nothing when not all was as promised: then it says so by its status too."""
    done = lab.run("demo", check=False)
    print(done.stdout, done.stderr)  # to be read when the test fails
    return done.stdout if not done.returncode and "✗" not in done.stdout else ""
