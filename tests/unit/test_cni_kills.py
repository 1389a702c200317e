"""A call killed before each of its effects and after the last, on a node in memory; tests/kernel does the same for real.

The law: whatever step it dies at, afterwards a DEL, a repeated ADD or a sweep finds everything, and at no moment is
an address with two owners or a wired pod without a lease.
"""

import contextlib
import itertools

import pytest

from cni import leftovers
from tests.cni_node import FailPoint, FakeNode, Killed, interrupted

PORTS = {"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}}
TINY = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/30"}]]}  # one address: a leak shows at once


def killed_at(step: int, node: FakeNode, command: str, pod) -> bool:
    """Run a call that dies at this step; False when it had ended before."""

    def die() -> None:
        raise Killed

    point = FailPoint(step, die)
    with contextlib.suppress(Killed):
        node.call(command, pod, host=interrupted(node.host(), point), ipam=TINY, ipMasq=True, sourceCheck=True, **PORTS)
        point.step()  # all is done but the answer
        return False
    return True


def deaths(make_node, command):
    """A node and pod for every step the call can die at."""
    for step in itertools.count(1):
        node = make_node()
        pod = node.pod("web")
        if command == "DEL":
            node.call("ADD", pod, ipam=TINY, sourceCheck=True, **PORTS)
        if not killed_at(step, node, command, pod):
            assert step > 5, "the call has hardly any steps: is the fail point connected?"
            return
        yield node, pod


@pytest.fixture
def make_node(tmp_path):
    numbers = itertools.count()
    return lambda: FakeNode(tmp_path / str(next(numbers)))


def assert_clean(node: FakeNode, pod) -> None:
    assert (node.leased(), node.veths(), node.ports(), node.gated()) == ({}, [], {}, set())
    assert pod.netlink.link("eth0") is None


def assert_one_pod(node: FakeNode) -> None:
    assert (node.leased(), len(node.veths())) == ({"web": "10.244.1.2"}, 1)


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_delete_removes_what_any_killed_call_left(make_node, command):
    for node, pod in deaths(make_node, command):
        assert node.call("DEL", pod, ipam=TINY) == {"exit": 0}
        assert_clean(node, pod)


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_delete_removes_it_when_the_namespace_is_gone_too(make_node, command):
    for node, pod in deaths(make_node, command):
        node.vanish(pod)
        assert node.call("DEL", pod, ipam=TINY) == {"exit": 0}
        assert_clean(node, pod)


def test_repeated_add_after_any_killed_add_ends_with_one_pod(make_node):
    for node, pod in deaths(make_node, "ADD"):
        # Killed when all was done but the answer, it cannot be told from an ADD that ended well.
        is_finished = "active" in node.states()
        answer = node.call("ADD", pod, ipam=TINY)
        assert answer.get("code") == (101 if is_finished else None)
        assert_one_pod(node)


def test_same_request_again_after_any_killed_add_succeeds(make_node):
    request = {"PODWIRE_REQUEST": "the-same"}
    for step in itertools.count(1):
        node = make_node()
        pod = node.pod("web")
        point = FailPoint(step, lambda: (_ for _ in ()).throw(Killed))
        with contextlib.suppress(Killed):
            node.call("ADD", pod, host=interrupted(node.host(), point), env=request, ipam=TINY)
            point.step()
            return
        assert node.call("ADD", pod, env=request, ipam=TINY)["exit"] == 0
        assert_one_pod(node)


def test_add_in_a_new_namespace_after_any_killed_call_succeeds(make_node):
    for node, pod in itertools.chain(deaths(make_node, "ADD"), deaths(make_node, "DEL")):
        node.vanish(pod)
        assert node.call("ADD", node.pod("web"), ipam=TINY)["exit"] == 0
        assert_one_pod(node)


def test_another_pod_gets_the_address_a_killed_add_never_used(make_node):
    for node, pod in deaths(make_node, "ADD"):
        node.vanish(pod)
        answer = node.call("ADD", node.pod("other"), ipam=TINY)
        assert answer["ips"][0]["address"] == "10.244.1.2/30"
        assert len(node.veths()) == 1


def test_no_other_pod_gets_an_address_while_its_owner_is_wired(make_node):
    for node, pod in deaths(make_node, "DEL"):
        if pod.netlink.link("eth0"):
            assert node.call("ADD", node.pod("other"), ipam=TINY)["code"] == 100


def test_sweep_after_any_killed_add_leaves_a_whole_pod_or_nothing(make_node):
    for node, pod in deaths(make_node, "ADD"):
        leftovers.sweep("net", node.directory, node.host())
        is_wired = pod.netlink.link("eth0") is not None
        assert (len(node.leased()), len(node.veths()), len(node.gated())) == (int(is_wired),) * 3


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_gc_removes_what_any_killed_call_left(make_node, command):
    for node, pod in deaths(make_node, command):
        nobody = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}
        assert node.call("GC", pod, ipam=TINY, **nobody) == {"exit": 0}
        assert_clean(node, pod)
