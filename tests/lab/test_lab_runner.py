"""The pod runner: crashes, deletions, jobs, its own death at any moment."""

import pytest

from tests.lab.cluster import ask, command_pod, echo_pod, is_running, kill
from tests.waiting import eventually


def container_status(lab, space, name):
    statuses = lab.get("pod", name, "--namespace", space)["status"].get("containerStatuses", [{}])
    return statuses[0]


def process_of(lab, pod):
    return int(lab.records()[pod.uid]["containers"][0]["running"].partition("@")[0])


def test_a_crashed_container_starts_again_with_the_same_address(lab, space):
    lab.apply(echo_pod("web", space, node="node1"))
    before = lab.ready_pods(space, 1)["web"]

    kill(process_of(lab, before))

    eventually(lambda: container_status(lab, space, "web").get("restartCount") == 1, every=0.1)
    after = lab.ready_pods(space, 1)["web"]
    assert (after.address, after.uid) == (before.address, before.uid)
    assert container_status(lab, space, "web")["lastState"]["terminated"]["exitCode"] == 137


def test_a_killed_runner_leaves_pods_alone_and_its_successor_adopts_them(lab, space):
    lab.apply(echo_pod("web", space, node="node1"))
    pod = lab.ready_pods(space, 1)["web"]
    process = process_of(lab, pod)

    lab.kill("node1/runner")
    eventually(lambda: lab.pids("node1/runner"))

    assert ask(lab.node("node3"), pod.address).pod == "web"
    kill(process)
    eventually(lambda: container_status(lab, space, "web").get("restartCount") == 1, every=0.1)
    assert lab.ready_pods(space, 1)["web"].address == pod.address


def test_a_pod_deleted_while_the_runner_is_dead_is_taken_down_by_its_successor(lab, space):
    lab.apply(echo_pod("web", space, node="node1"))
    pod = lab.ready_pods(space, 1)["web"]
    with lab.stopped("node1/runner"):
        lab.kubectl("delete", "pod", "web", "--namespace", space, "--force", "--grace-period=0", "--wait=false")
        assert ask(lab.node("node1"), pod.address).pod == "web"

    eventually(lambda: pod.netns.name not in lab.namespaces(), every=0.1)
    eventually(lambda: pod.address not in lab.leases("node1"))


def test_a_runner_killed_while_it_makes_pods_leaks_nothing(lab, space):
    with lab.stopped("node1/runner"):
        lab.apply(*(echo_pod(f"burst-{number}", space, node="node1") for number in range(8)))
    for made in (1, 3, 5):
        eventually(lambda made=made: len(lab.leases("node1")) > made, every=0.002)
        lab.kill("node1/runner")

    lab.ready_pods(space, 8)
    lab.assert_no_address_is_double_or_leaked()


def test_a_job_that_ends_well_has_succeeded_and_gives_its_address_back(lab, space):
    lab.apply(command_pod("job", space, "sh", "-c", "exit 0"))

    eventually(lambda: lab.get("pod", "job", "--namespace", space)["status"].get("phase") == "Succeeded", every=0.1)
    eventually(lambda: lab.leases("node1") == [], within=60, every=0.1)


def test_a_job_that_fails_says_with_which_exit_code(lab, space):
    lab.apply(command_pod("job", space, "sh", "-c", "exit 3"))

    eventually(lambda: lab.get("pod", "job", "--namespace", space)["status"].get("phase") == "Failed", every=0.1)
    assert container_status(lab, space, "job")["state"]["terminated"]["exitCode"] == 3


def test_a_container_that_keeps_crashing_is_started_ever_later(lab, space):
    lab.apply(command_pod("crash", space, "false", policy="Always"))

    def waits_after_some_starts():
        status = container_status(lab, space, "crash")
        return status.get("restartCount", 0) >= 3 and status["state"].get("waiting", {}).get("reason")

    eventually(lambda: waits_after_some_starts() == "CrashLoopBackOff", within=60, every=0.1)


@pytest.mark.parametrize(
    ("container", "reason", "words"),
    [
        ({"image": "nginx:latest"}, "ErrImageNeverPull", "podwire/echo"),
        ({"image": "x", "command": ["/no/such/program"]}, "RunContainerError", "No such file"),
    ],
    ids=["unknown image", "unknown command"],
)
def test_a_container_that_cannot_start_says_why(lab, space, container, reason, words):
    lab.apply(echo_pod("odd", space, node="node1", containers=[{"name": "main", **container}]))

    def why():
        waiting = container_status(lab, space, "odd").get("state", {}).get("waiting", {})
        return waiting.get("reason") == reason and waiting["message"]

    assert words in eventually(why, every=0.1)


def test_a_container_that_ignores_sigterm_is_killed_after_its_grace(lab, space):
    script = "trap '' TERM; while :; do sleep 0.1; done"
    lab.apply(command_pod("deaf", space, "sh", "-c", script, terminationGracePeriodSeconds=1))
    pod = lab.ready_pods(space, 1)["deaf"]
    process = process_of(lab, pod)

    lab.kubectl("delete", "pod", "deaf", "--namespace", space, "--wait=false")

    eventually(lambda: not is_running(process))
    eventually(lambda: lab.pods(space) == {}, every=0.1)
    eventually(lambda: pod.netns.name not in lab.namespaces())


def test_children_a_pod_leaves_behind_end_with_it(lab, space):
    lab.apply(command_pod("parent", space, "sh", "-c", "setsid sleep 300 & setsid sleep 300 & wait", policy="Always"))
    pod = lab.ready_pods(space, 1)["parent"]
    pids = eventually(lambda: len(found := pod.netns_pids()) == 3 and found)

    lab.kubectl("delete", "pod", "parent", "--namespace", space, "--wait=false")

    eventually(lambda: not any(map(is_running, pids)))


def test_the_same_name_again_is_another_pod(lab, space):
    lab.apply(echo_pod("web", space, node="node1"))
    first = lab.ready_pods(space, 1)["web"]
    lab.kubectl("delete", "pod", "web", "--namespace", space, "--force", "--grace-period=0", "--wait=false")
    lab.apply(echo_pod("web", space, node="node1"))

    second = eventually(lambda: (pod := lab.ready_pods(space, 1)["web"]).uid != first.uid and pod, every=0.1)

    assert second.netns != first.netns
    eventually(lambda: lab.leases("node1") == [second.address], within=60, every=0.1)
    assert ask(lab.node("node2"), second.address).pod == "web"
