"""What a pod's status says. Pod 10.244.1.5 on the node 172.30.0.11."""

from datetime import UTC, datetime, timedelta

import pytest

from kube.objects import Container, ObjectMeta, Pod, PodSpec
from pods import status
from pods.record import ContainerRecord, SandboxRecord
from pods.status import Observed, Waiting

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
EARLIER = NOW - timedelta(minutes=5)
RUNNING = ContainerRecord(name="echo", running="7@1", started_at=EARLIER)


def a_pod(*, policy="Always", containers=("echo",)):
    spec = PodSpec(
        containers=tuple(Container(name=name, image="podwire/echo") for name in containers), restart_policy=policy
    )
    return Pod(metadata=ObjectMeta(name="web-1", namespace="demo", uid="u1"), spec=spec)


def a_sandbox(*containers, address="10.244.1.5"):
    return SandboxRecord(
        uid="u1",
        namespace="demo",
        name="web-1",
        sandbox_id="c" * 64,
        netns="pw-lab-node1-web-1",
        boot_id="b",
        made_at=EARLIER,
        addresses=(address,) if address else (),
        containers=containers,
    )


def ended(code, name="echo"):
    return ContainerRecord(name=name, started_at=EARLIER, finished_at=NOW, exit_code=code)


def rendered(pod, record, *, ready=(), waiting=None, before=None, now=NOW):
    observed = Observed(record=record, ready=frozenset(ready), waiting=waiting or {}, host_ips=("172.30.0.11",))
    return status.render(pod, observed, before=before or {}, now=now)


def condition(found, kind):
    return next(each for each in found["conditions"] if each["type"] == kind)


@pytest.mark.parametrize(
    ("policy", "record", "phase"),
    [
        ("Always", None, "Pending"),
        ("Always", a_sandbox(address=""), "Pending"),
        ("Always", a_sandbox(), "Pending"),
        ("Always", a_sandbox(RUNNING), "Running"),
        ("Always", a_sandbox(ended(0)), "Running"),
        ("OnFailure", a_sandbox(ended(1)), "Running"),
        ("OnFailure", a_sandbox(ended(0)), "Succeeded"),
        ("Never", a_sandbox(ended(0)), "Succeeded"),
        ("Never", a_sandbox(ended(1)), "Failed"),
        ("Never", a_sandbox(ended(None)), "Failed"),
    ],
    ids=[
        "no sandbox",
        "not wired",
        "not started",
        "running",
        "will start again",
        "failed and will start again",
        "ended well on failure only",
        "ended well",
        "failed",
        "ended unseen",
    ],
)
def test_the_phase_follows_from_the_record(policy, record, phase):
    assert rendered(a_pod(policy=policy), record)["phase"] == phase


def test_a_pod_of_two_containers_runs_while_one_of_them_does():
    pod = a_pod(policy="Never", containers=("echo", "job"))

    assert rendered(pod, a_sandbox(RUNNING, ended(0, "job")))["phase"] == "Running"


def test_addresses_are_told_as_soon_as_the_pod_is_wired():
    found = rendered(a_pod(), a_sandbox())

    assert (found["podIP"], found["podIPs"], found["hostIP"]) == ("10.244.1.5", [{"ip": "10.244.1.5"}], "172.30.0.11")
    assert "podIP" not in rendered(a_pod(), a_sandbox(address=""))


def test_ready_is_true_only_when_every_container_is():
    pod = a_pod(containers=("echo", "side"))
    record = a_sandbox(RUNNING, ContainerRecord(name="side", running="8@1", started_at=EARLIER))

    half = rendered(pod, record, ready={"echo"})
    assert condition(half, "Ready")["status"] == "False"
    assert "side" in condition(half, "Ready")["message"]
    assert condition(rendered(pod, record, ready={"echo", "side"}), "Ready")["status"] == "True"


def test_a_condition_keeps_the_time_of_its_last_transition():
    first = rendered(a_pod(), a_sandbox(RUNNING), now=EARLIER)
    second = rendered(a_pod(), a_sandbox(RUNNING), ready={"echo"}, before=first)

    assert condition(second, "Initialized")["lastTransitionTime"] == "2026-03-01T11:55:00Z"
    assert condition(second, "Ready")["lastTransitionTime"] == "2026-03-01T12:00:00Z"


def test_saying_the_same_again_changes_nothing():
    first = rendered(a_pod(), a_sandbox(RUNNING), ready={"echo"})

    assert rendered(a_pod(), a_sandbox(RUNNING), ready={"echo"}, before=first, now=NOW + timedelta(hours=1)) == first


def test_a_container_that_waits_says_why():
    why = {"echo": Waiting(reason="ErrImageNeverPull", message="a lab has no image 'nginx'")}

    found = rendered(a_pod(), a_sandbox(), waiting=why)["containerStatuses"][0]

    assert found["state"] == {"waiting": {"reason": "ErrImageNeverPull", "message": "a lab has no image 'nginx'"}}


def test_a_container_between_two_runs_tells_how_the_last_one_ended():
    found = rendered(a_pod(), a_sandbox(ended(3)))["containerStatuses"][0]

    assert found["lastState"]["terminated"]["exitCode"] == 3
    assert "waiting" in found["state"]


def test_a_container_that_ended_for_good_is_terminated():
    found = rendered(a_pod(policy="Never"), a_sandbox(ended(0)))["containerStatuses"][0]

    assert found["state"]["terminated"]["reason"] == "Completed"
    assert "lastState" not in found
