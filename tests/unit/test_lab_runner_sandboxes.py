"""A pod's namespace, when the network plugin refuses; and what runs in it, when its starter was killed."""

import os
import signal
import threading

import pytest

from kube.objects import Container, ObjectMeta, Pod, PodSpec
from lab import processes
from lab.process import Process
from lab.runner.ends import Ends
from lab.runner.launcher import Launcher, role
from lab.runner.records import Records
from lab.runner.sandboxes import NetworkError, Sandboxes
from tests.unit.test_lab_runner_parts import RECORD
from tests.waiting import eventually

POD = Pod(
    metadata=ObjectMeta(name="web-1", namespace="demo", uid="u1"),
    spec=PodSpec(node_name="node1", containers=(Container(name="echo", image="podwire/echo"),)),
)


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


@pytest.fixture
def spawned(tmp_path):
    made = []

    def spawn(variables):
        made.append(processes.spawn(("sleep", "60"), log=tmp_path / "log", variables=os.environ | variables))
        return made[-1]

    yield spawn
    processes.kill(made)
    for process in made:
        processes.reap(process.pid)


def test_a_process_started_just_before_its_starter_was_killed_is_found_without_a_record(tmp_path, spawned):
    stray = spawned({processes.LAB: str(tmp_path), processes.ROLE: role(RECORD, "echo")})
    spawned({processes.LAB: str(tmp_path), processes.ROLE: "pod/cafe/echo"})
    launcher = Launcher(records=Records(tmp_path), variables={processes.LAB: str(tmp_path)}, host="172.30.0.11")

    assert eventually(lambda: launcher.find(RECORD)) == {"echo": stray}


def test_each_end_is_told_once_and_one_of_the_past_at_once(spawned):
    told = []
    ends = Ends(told.append)
    process = spawned({})
    ends.watch(process, "u1")
    ends.watch(Process(pid=process.pid, started=1), "u2")
    assert told == ["u2"]

    processes.send(process, signal.SIGKILL)

    eventually(lambda: told == ["u2", "u1"])
    ends.close()
    assert "ends" not in {thread.name for thread in threading.enumerate()}
