"""One pod's worker and its sandbox, when what they depend on fails in ways nobody planned for."""

from dataclasses import dataclass, field

import pytest

from kube.objects import Container, ObjectMeta, Pod, PodSpec
from lab.runner.pod import PodHost, PodWorker
from lab.runner.publisher import key_of
from lab.runner.records import Records
from lab.runner.sandboxes import NetworkError, Sandboxes
from tests.unit.test_lab_runner_parts import RECORD
from tests.waiting import eventually

POD = Pod(
    metadata=ObjectMeta(name="web-1", namespace="demo", uid="u1"),
    spec=PodSpec(node_name="node1", containers=(Container(name="echo", image="podwire/echo"),)),
)


class DefectiveSandboxes:
    def make(self, pod):
        raise ValueError(f"defect at {pod.metadata.name}")

    def clear(self, uid):
        pass


@dataclass
class Words:
    """A publisher that keeps what it is told."""

    said: list = field(default_factory=list)

    def status(self, key, status):
        self.said.append(status["containerStatuses"][0]["state"]["waiting"]["message"])

    def forget(self, key):
        self.said.append("forgotten")


class Agentless:
    """A network whose plugin refuses everything."""

    def attach(self, record):
        raise NetworkError("no agent")

    def detach(self, record):
        raise NetworkError("no agent")

    def check(self, record):
        raise NetworkError("no agent")


class Unplugged(Agentless):
    def detach(self, record):
        pass


def test_a_defect_is_told_as_the_pods_trouble_and_the_pod_can_still_end(tmp_path):
    ended, words = [], Words()
    host = PodHost(
        address="192.0.2.1",
        sandboxes=DefectiveSandboxes(),
        records=Records(tmp_path),
        launcher=None,
        publisher=words,
    )
    worker = PodWorker(key_of(POD), host, record=None, on_end=ended.append)
    worker.start(POD)
    eventually(lambda: "defect at web-1" in words.said)

    worker.update(None)

    eventually(lambda: ended == [key_of(POD)])
    assert words.said[-1] == "forgotten"


def test_a_far_moment_can_be_slept_towards(tmp_path):
    host = PodHost(
        address="192.0.2.1", sandboxes=DefectiveSandboxes(), records=Records(tmp_path), launcher=None, publisher=Words()
    )
    worker = PodWorker(key_of(POD), host, record=None, on_end=lambda _: None)
    worker.update(POD)

    worker._sleep(2.0**62)


def test_a_sandbox_that_could_not_be_given_back_is_not_forgotten_by_the_next_try(tmp_path):
    records = Records(tmp_path)
    records.write(RECORD)

    with pytest.raises(NetworkError):
        Sandboxes(prefix="pw-nowhere", records=records, network=Agentless()).make(POD)

    assert list(records.all()) == [RECORD]


def test_what_a_failed_try_left_is_given_back(tmp_path):
    records = Records(tmp_path)
    records.write(RECORD)

    Sandboxes(prefix="pw-nowhere", records=records, network=Unplugged()).clear("u1")

    assert list(records.all()) == []
