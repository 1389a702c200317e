"""Services in the lab: real connections from pods and nodes, changes made with kubectl.

Three echo pods, one a node, behind the Services `turn` and `sticky`; `lonely` has no pod, `self` only the asking one.
"""

import subprocess

import pytest

from tests.lab.cluster import ask, await_endpoints, can_connect, echo_pod, is_refused, is_strict_turn, service, tries
from tests.waiting import eventually


@pytest.fixture(scope="module")
def stage(lab):
    space = "services"
    lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    try:
        yield space, set_stage(lab, space)
    finally:
        lab.kubectl("delete", "namespace", space, "--wait=false")


def set_stage(lab, space):
    """Make pods and Services; return the pods when every node's proxy knows them."""
    pods = [echo_pod(f"echo-{number}", space, node=f"node{number}") for number in (1, 2)]
    pods.append(lingering(echo_pod("echo-3", space, node="node3")))
    asking = echo_pod("asker", space, node="node2", app="asker")
    lab.apply(
        *pods,
        asking,
        service("turn", space),
        service("sticky", space, sessionAffinity="ClientIP"),
        service("lonely", space, app="nobody"),
        service("self", space, app="asker"),
    )
    found = lab.ready_pods(space, 4)
    for pod in found.values():
        for udp in (False, True):
            await_endpoints(pod.netns, lab.cluster_ip(space, "turn"), ECHOES, udp=udp)
    await_endpoints(found["asker"].netns, lab.cluster_ip(space, "self"), {"asker"})
    eventually(lambda: can_connect(found["asker"].netns, lab.cluster_ip(space, "sticky"), 80))
    return found


ECHOES = {"echo-1", "echo-2", "echo-3"}
LINGERING = 60


def lingering(pod: dict) -> dict:
    """A pod that goes on answering for a long time after it was told to end."""
    pod["spec"]["terminationGracePeriodSeconds"] = 2 * LINGERING
    pod["spec"]["containers"][0]["env"] = [{"name": "DRAIN_SECONDS", "value": str(LINGERING)}]
    return pod


@pytest.mark.parametrize("udp", [False, True], ids=["TCP", "UDP"])
def test_twelve_requests_from_each_node_are_answered_in_strict_turn(lab, stage, udp):
    space, pods = stage
    address = lab.cluster_ip(space, "turn")

    for number in (1, 2, 3):
        answers = tries(pods[f"echo-{number}"].netns, address, 80, 12, udp=udp)
        assert is_strict_turn(answers, ECHOES), answers


def test_a_node_itself_reaches_a_service(lab, stage):
    space, _ = stage

    assert is_strict_turn(tries(lab.node("node1"), lab.cluster_ip(space, "turn"), 80, 6), ECHOES)


def test_a_client_with_affinity_stays_with_its_endpoint(lab, stage):
    space, pods = stage

    assert len(set(tries(pods["asker"].netns, lab.cluster_ip(space, "sticky"), 80, 12))) == 1


def test_the_endpoint_sees_the_client_and_not_the_node(lab, stage):
    space, pods = stage
    answers = [ask(pods["asker"].netns, lab.cluster_ip(space, "turn"), 80) for _ in range(3)]

    assert {answer.client for answer in answers} == {pods["asker"].address}


def test_a_pod_reaches_itself_through_its_own_service(lab, stage):
    space, pods = stage

    assert tries(pods["asker"].netns, lab.cluster_ip(space, "self"), 80, 3) == ["asker"] * 3


def test_a_service_without_endpoints_refuses_at_once(lab, stage):
    space, pods = stage
    address = lab.cluster_ip(space, "lonely")

    for udp in (False, True):
        eventually(lambda udp=udp: is_refused(pods["asker"].netns, address, 80, udp=udp))


def test_the_api_server_is_a_service_that_pods_reach(stage):
    _, pods = stage

    shown = pods["asker"].netns.run("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "https://10.96.0.1/version")
    assert shown in {"200", "401"}


def test_a_pod_deleted_with_kubectl_leaves_the_rotation_while_it_still_answers_and_no_request_fails(lab, stage):
    """How soon is told by the demo; here the pod has time enough to end on a busy machine too."""
    space, pods = stage
    address, client = lab.cluster_ip(space, "turn"), pods["asker"].netns
    lab.kubectl("delete", "pod", "echo-3", "--namespace", space, "--wait=false")

    eventually(lambda: is_strict_turn(tries(client, address, 80, 6), {"echo-1", "echo-2"}), within=LINGERING / 2)

    assert ask(client, pods["echo-3"].address).pod == "echo-3"
    lab.kubectl("delete", "pod", "echo-3", "--namespace", space, "--force", "--grace-period=0", "--wait=false")
    eventually(lambda: "echo-3" not in lab.pods(space), every=0.1)
    lab.apply(echo_pod("echo-3", space, node="node3"))
    lab.ready_pods(space, 4)
    await_endpoints(client, address, ECHOES)


def test_a_pod_that_fails_its_readiness_probe_is_not_asked(lab, space):
    pod = echo_pod("picky", space, node="node1")
    pod["spec"]["containers"][0]["readinessProbe"] = {
        "exec": {"command": ["test", "-e", f"/tmp/{space}"]},
        "periodSeconds": 1,
    }
    lab.apply(pod, service("picky", space))
    address = lab.cluster_ip(space, "picky")
    eventually(lambda: lab.pods(space)["picky"].address, every=0.1)

    assert not can_connect(lab.node("node2"), address, 80)
    with open(f"/tmp/{space}", "w"):
        try:
            eventually(lambda: can_connect(lab.node("node2"), address, 80), every=0.05)
        finally:
            subprocess.run(["rm", f"/tmp/{space}"], check=True)
    eventually(lambda: not can_connect(lab.node("node2"), address, 80), every=0.05)


def test_the_ruleset_of_a_node_loads_back_into_stock_nft(lab, stage):
    shown = lab.run("exec", "node1", "--", "nft", "list", "ruleset").stdout

    assert "services/turn" in shown
    lab.node("node1").run("nft", "-c", "-f", "-", stdin=shown)
