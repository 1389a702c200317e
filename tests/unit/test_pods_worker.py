"""One pod's worker: what it does with a runtime in memory, also when that fails in ways nobody planned for."""

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import pytest

from kube.objects import (
    Condition,
    Container,
    ContainerStatus,
    Exec,
    ObjectMeta,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    Probe,
    TcpSocket,
)
from pods.publisher import key_of
from pods.record import ContainerRecord, SandboxRecord
from pods.runtime import RuntimeFailed
from pods.worker import PodHost, PodWorker
from tests.waiting import eventually

NOW = datetime(2026, 3, 1, tzinfo=UTC)
POD = Pod(
    metadata=ObjectMeta(name="web-1", namespace="demo", uid="u1"),
    spec=PodSpec(node_name="node1", containers=(Container(name="echo", image="podwire/echo"),)),
)
SANDBOX = SandboxRecord(
    uid="u1", namespace="demo", name="web-1", sandbox_id="s1", made_at=NOW, addresses=("10.244.1.5",)
)
RUNNING = SANDBOX.with_container(ContainerRecord(name="echo", running="c0", started_at=NOW))


@dataclass
class Runtime:
    """Sandboxes and containers that are only named. What is in `dead` has ended; what is in `lost` is no more."""

    failure: Exception | None = None
    dead: dict = field(default_factory=dict)
    lost: set = field(default_factory=set)
    started: list = field(default_factory=list)
    made: int = 0
    removed: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    probed: list = field(default_factory=list)
    kept: SandboxRecord | None = None

    def make(self, pod):
        if self.failure:
            raise self.failure
        self.made += 1
        return msgspec.structs.replace(SANDBOX, sandbox_id=f"s{self.made}")

    def adopt(self, record):
        return None if record.sandbox_id in self.lost else record

    def look(self, record):
        if record.sandbox_id in self.lost:
            return None
        for container in record.running:
            if container.running in self.dead:
                code = self.dead[container.running]
                record = record.with_container(
                    msgspec.structs.replace(container, running="", exit_code=code, finished_at=NOW)
                )
        return record

    def remember(self, record):
        self.kept = record

    def release(self, record):
        return msgspec.structs.replace(record, released=True)

    def remove(self, record):
        self.removed.append(record.sandbox_id)

    def clear(self, uid):
        pass

    def start(self, pod, container, sandbox):
        self.started.append(sandbox.container(container.name).restarts)
        return f"c{len(self.started)}"

    def probe(self, command, sandbox, container, *, seconds):
        self.probed.append((sandbox.container(container).running, command))
        return ""

    def ask_to_end(self, sandbox, grace):
        self.asked.append(grace)


@dataclass
class Words:
    """A publisher that keeps what it is told."""

    said: list = field(default_factory=list)
    forgotten: bool = False

    def status(self, key, status):
        self.said.append(status)

    def forget(self, key):
        self.forgotten = True

    def gone(self, key):
        self.forgotten = True

    @property
    def state(self):
        return self.said[-1]["containerStatuses"][0]["state"] if self.said else {}

    @property
    def is_ready(self):
        return bool(self.said) and self.said[-1]["containerStatuses"][0]["ready"]


@contextmanager
def tended(pod=POD, *, runtime, words, record=None):
    """A worker at work; afterwards its pod is deleted and it ends."""
    ended = []
    host = PodHost(addresses=("192.0.2.1",), runtime=runtime, publisher=words, stale=0.05)
    made = PodWorker(key_of(pod), host, record=record, on_end=ended.append)
    made.start(pod)
    try:
        yield made
    finally:
        runtime.dead = dict.fromkeys([f"c{number}" for number in range(9)], 0)
        made.update(None)
        eventually(lambda: ended == [key_of(pod)])


def told(status, **changes):
    """The pod as the API has it after this status."""
    return msgspec.structs.replace(POD, status=msgspec.convert(status | changes, PodStatus))


@pytest.mark.parametrize("failure", [ValueError("defect"), RuntimeFailed("defect")])
def test_a_defect_is_told_as_the_pods_trouble_and_the_pod_can_still_end(failure):
    runtime, words = Runtime(failure=failure), Words()
    with tended(runtime=runtime, words=words):
        eventually(lambda: words.state.get("waiting", {}).get("message") == "defect")

    assert words.forgotten


def test_a_pod_starts_once_its_runtime_answers_again():
    runtime, words = Runtime(failure=RuntimeFailed("not yet")), Words()
    with tended(runtime=runtime, words=words):
        eventually(lambda: words.said)
        runtime.failure = None
        eventually(lambda: words.is_ready)


def test_an_end_the_runtime_tells_of_becomes_a_restart():
    runtime, words = Runtime(), Words()
    with tended(runtime=runtime, words=words) as worker:
        eventually(lambda: words.is_ready)
        runtime.dead["c1"] = 3
        worker.wake()
        eventually(lambda: runtime.started == [0, 1])
        eventually(lambda: words.is_ready and words.said[-1]["containerStatuses"][0]["restartCount"] == 1)
        assert words.said[-1]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 3


def test_a_lost_sandbox_is_removed_and_made_anew():
    runtime, words = Runtime(), Words()
    with tended(runtime=runtime, words=words) as worker:
        eventually(lambda: words.is_ready)
        runtime.lost.add("s1")
        worker.wake()
        eventually(lambda: runtime.started == [0, 0])
        assert runtime.removed == ["s1"]


def test_an_adopted_container_stays_ready_while_it_is_asked_for_the_first_time():
    probe = Probe(tcp_socket=TcpSocket(port=1, host="192.0.2.1"), timeout_seconds=1)
    spec = PodSpec(containers=(Container(name="echo", readiness_probe=probe),))
    status = PodStatus(
        phase="Running",
        pod_ips=(PodIP(ip="10.244.1.5"),),
        conditions=(Condition(type="Ready", status="True"),),
        container_statuses=(ContainerStatus(name="echo", ready=True),),
    )
    runtime, words = Runtime(), Words()
    with tended(Pod(metadata=POD.metadata, spec=spec, status=status), runtime=runtime, words=words, record=RUNNING):
        eventually(lambda: words.said)
        assert words.said[0]["containerStatuses"][0]["ready"]
    assert runtime.started == []


def test_the_first_probe_of_a_container_runs_in_the_container_just_started():
    runtime, words = Runtime(), Words()
    probe = Probe(exec=Exec(command=("true",)), period_seconds=3600)
    spec = PodSpec(containers=(Container(name="echo", readiness_probe=probe),))

    with tended(msgspec.structs.replace(POD, spec=spec), runtime=runtime, words=words):
        eventually(lambda: runtime.probed == [("c1", ("true",))])


def test_a_container_that_ended_while_no_runner_watched_is_not_ready():
    status = PodStatus(container_statuses=(ContainerStatus(name="echo", ready=True),))
    runtime, words = Runtime(dead={"c0": 1}), Words()
    waiting = Container(name="echo", readiness_probe=Probe(initial_delay_seconds=60))
    pod = Pod(metadata=POD.metadata, spec=PodSpec(containers=(waiting,)), status=status)
    with tended(pod, runtime=runtime, words=words, record=RUNNING):
        eventually(lambda: words.said)
        assert not any(said["containerStatuses"][0]["ready"] for said in words.said)
    assert runtime.started == [1]


def test_what_somebody_else_wrote_over_a_status_is_told_again():
    runtime, words = Runtime(), Words()
    with tended(runtime=runtime, words=words) as worker:
        eventually(lambda: words.is_ready)
        said = len(words.said)
        worker.update(told(words.said[-1]))
        worker.update(told(words.said[-1], phase="Failed"))
        eventually(lambda: len(words.said) > said)
        assert words.said[-1]["phase"] == "Running"


def test_a_pod_that_finished_before_this_runner_is_left_alone():
    runtime, words = Runtime(), Words()
    with tended(told({"phase": "Succeeded"}), runtime=runtime, words=words):
        pass

    assert (runtime.made, words.said) == (0, [])


def test_a_far_moment_can_be_slept_towards():
    worker = PodWorker(
        key_of(POD), PodHost(addresses=(), runtime=Runtime(), publisher=Words()), record=None, on_end=lambda _: None
    )
    worker.update(POD)

    worker._sleep(2.0**62)
