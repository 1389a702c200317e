"""kill -9 of agents, proxies and the API server in every order.

What runs goes on while they are dead, with nobody to start them again; afterwards everything converges, and no address
is double or leaked.
"""

import functools
import itertools

import pytest

from tests.lab.cluster import ask, await_endpoints, echo_pod, is_strict_turn, service, tries
from tests.waiting import eventually

PARTS = ("agent", "proxy", "api")


@pytest.fixture(scope="module")
def stage(lab):
    space = "kills"
    lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    try:
        lab.apply(
            *(echo_pod(f"echo-{number}", space, node=f"node{number}") for number in (1, 2, 3)), service("turn", space)
        )
        lab.ready_pods(space, 3)
        yield space
    finally:
        lab.kubectl("delete", "namespace", space, "--wait=false")


@pytest.mark.parametrize("order", list(itertools.permutations(PARTS)), ids="-".join)
def test_pods_and_services_survive_the_death_of(lab, stage, order):
    pods = lab.ready_pods(stage, 3)
    address = lab.cluster_ip(stage, "turn")
    for pod in pods.values():
        await_endpoints(pod.netns, address, set(pods))
    with lab.unsupervised():
        for part in order:
            lab.kill_everywhere(part)
            assert_everything_works(pods, address)

    assert_everything_works(pods, address)
    replace_a_pod(lab, stage, address)
    lab.assert_no_address_is_double_or_leaked()


def assert_everything_works(pods, address):
    for one, other in itertools.product(pods.values(), repeat=2):
        assert ask(one.netns, other.address).pod == other.name
    for pod in pods.values():
        answers = tries(pod.netns, address, 80, 6)
        assert is_strict_turn(answers, set(pods)), answers


def replace_a_pod(lab, space, address):
    """Show that the revived components do their work: a pod goes, another comes, every node's proxy knows it."""
    gone = min(lab.pods(space))
    number = gone.rpartition("-")[2]
    lab.kubectl("delete", "pod", gone, "--namespace", space, "--wait=false")
    lab.apply(echo_pod(f"next-{number}" if gone.startswith("echo") else f"echo-{number}", space, node=f"node{number}"))
    pods = lab.ready_pods(space, 3)
    for pod in pods.values():
        await_endpoints(pod.netns, address, set(pods))


def test_pods_made_while_agents_and_proxies_are_dead_work_and_join_when_they_are_back(lab, space):
    with lab.unsupervised():
        lab.kill_everywhere("agent")
        lab.kill_everywhere("proxy")
        lab.apply(
            *(echo_pod(f"late-{number}", space, node=f"node{number}") for number in (1, 2, 3)), service("late", space)
        )
        pods = lab.ready_pods(space, 3)
        for one, other in itertools.product(pods.values(), repeat=2):
            assert ask(one.netns, other.address).pod == other.name

    for pod in pods.values():
        await_endpoints(pod.netns, lab.cluster_ip(space, "late"), set(pods))
    lab.assert_no_address_is_double_or_leaked()


def test_a_supervised_component_that_dies_is_started_again_by_itself(lab):
    for role in ("api", "node2/agent", "node2/proxy", "node2/runner"):
        before = lab.pids(role)
        lab.kill(role)
        assert not set(eventually(functools.partial(lab.pids, role))) & set(before)
    eventually(lambda: lab.run("status", check=False).returncode == 0, every=0.1)
