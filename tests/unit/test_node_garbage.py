"""The agent's garbage collection: what two observations free, and that no living pod ever loses its lease."""

import pytest

from cni import locks
from ipam.lease import Attachment
from node.garbage import GarbageCollector
from tests.cni_node import FailPoint, FakeNode, Killed, interrupted

WEB = Attachment(network="net", container_id="web", ifname="eth0")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def node(tmp_path) -> FakeNode:
    return FakeNode(tmp_path / "state")


@pytest.fixture
def pod(node):
    pod = node.pod("web")
    node.call("ADD", pod)
    return pod


@pytest.fixture
def collector(node, pod, clock) -> GarbageCollector:
    """One that has made its first round while the pod lived."""
    collector = GarbageCollector("net", node.directory, node.host(), clock=clock)
    assert collector.sync() == ()
    return collector


def look(collector, clock, *, after=30.0) -> list[str]:
    clock.now += after
    return [str(lease.address) for lease in collector.sync()]


def test_a_vanished_pod_is_freed_at_the_second_look(node, pod, collector, clock):
    node.vanish(pod)
    assert [look(collector, clock), look(collector, clock)] == [[], ["10.244.1.2"]]
    assert node.leased() == {}


def test_two_looks_in_a_hurry_are_one(node, pod, collector, clock):
    node.vanish(pod)
    assert [look(collector, clock, after=1) for _ in range(3)] == [[], [], []]


def test_a_living_pod_is_never_freed(node, pod, collector, clock):
    assert [look(collector, clock) for _ in range(5)] == [[]] * 5
    assert node.leased() == {"web": "10.244.1.2"}


def test_a_living_pod_whose_veth_was_renamed_is_never_freed(node, pod, collector, clock):
    (veth,) = node.veths()
    node.netlink._links["renamed"] = node.netlink._links.pop(veth)  # the kernel's rename, which nobody of ours asks for
    assert [look(collector, clock) for _ in range(5)] == [[]] * 5


def test_a_pod_that_was_added_again_between_two_looks_is_not_freed(node, pod, collector, clock):
    node.vanish(pod)
    look(collector, clock)
    node.call("ADD", node.pod("web"))
    assert [look(collector, clock) for _ in range(3)] == [[]] * 3
    assert node.leased() == {"web": "10.244.1.3"}


def test_a_namespace_that_got_the_inode_of_a_vanished_one_keeps_nothing_alive(node, pod, collector, clock):
    node.vanish(pod)
    stranger = node.pod("stranger")
    stranger.netlink.fd = pod.fd
    look(collector, clock)
    assert look(collector, clock) == ["10.244.1.2"]


def test_a_call_under_way_is_left_alone_however_long_it_takes(node, clock):
    def stop_once_wired():
        if node.veths():
            raise Killed

    with pytest.raises(Killed):
        node.call("ADD", node.pod("web"), host=interrupted(node.host(), FailPoint(1, stop_once_wired)))
    assert node.states() == ["pending"]
    collector = GarbageCollector("net", node.directory, node.host(), clock=clock)
    with locks.attachment_lock(node.directory, WEB):
        assert [look(collector, clock) for _ in range(4)] == [[]] * 4
    assert look(collector, clock) == ["10.244.1.2"]


def test_the_first_round_frees_what_an_earlier_agent_left(node, pod, clock):
    node.vanish(pod)
    collector = GarbageCollector("net", node.directory, node.host(), clock=clock)
    assert look(collector, clock) == ["10.244.1.2"]


def test_the_first_round_drops_the_leases_of_an_earlier_boot(node, pod, clock):
    rebooted = FakeNode(node.directory, boot_id="22222222-0000-0000-0000-000000000000")
    GarbageCollector("net", node.directory, rebooted.host(), clock=clock).sync()
    assert rebooted.leased() == {}
