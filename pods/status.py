"""What a pod's status says, rendered from what the runner knows of it.

Pure. The same words as a kubelet's: phases, conditions, reasons and states, so that kubectl prints what people expect.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from kube.objects import Container, Pod, PodStatus
from pods.record import ContainerRecord, SandboxRecord

Phase = Literal["Pending", "Running", "Succeeded", "Failed"]
CREATING: Final = "ContainerCreating"
CRASH_LOOP: Final = "CrashLoopBackOff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a container does not run although it should."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """All the runner knows of a pod at one moment."""

    record: SandboxRecord | None
    ready: frozenset[str] = frozenset()  # names of containers
    waiting: Mapping[str, Waiting] = field(default_factory=dict)  # by container
    host_ips: tuple[str, ...] = ()


def will_restart(policy: str, exit_code: int | None) -> bool:
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def has_finished(pod: Pod, record: ContainerRecord) -> bool:
    """Say whether a container ended and stays ended."""
    return not record.running and record.finished_at is not None and not _restarts(pod, record)


def _restarts(pod: Pod, record: ContainerRecord) -> bool:
    return will_restart(pod.spec.restart_policy, record.exit_code)


def phase(pod: Pod, record: SandboxRecord | None) -> Phase:
    containers = pod.spec.containers or ()
    if record is None or not record.addresses:
        return "Pending"
    known = [record.container(container.name) for container in containers]
    if all(has_finished(pod, container) for container in known):
        return "Succeeded" if all(container.exit_code == 0 for container in known) else "Failed"
    started = all(container.started_at is not None for container in known)
    return "Running" if started else "Pending"


def render(pod: Pod, observed: Observed, *, before: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the whole status of a pod as it goes on the wire; lists are complete, for a merge patch replaces them.

    `before` is the status said last: a condition that has not changed keeps the time of its last transition.
    """
    record = observed.record
    status: dict[str, Any] = {
        "phase": phase(pod, record),
        "hostIP": next(iter(observed.host_ips), ""),
        "hostIPs": [{"ip": address} for address in observed.host_ips],
        "conditions": _conditions(pod, observed, before=before, now=now),
        "containerStatuses": [_container(pod, container, observed) for container in pod.spec.containers or ()],
    }
    if record is not None:
        status["startTime"] = _stamp(record.made_at)
    if record is not None and record.addresses:
        status |= {"podIP": record.address, "podIPs": [{"ip": address} for address in record.addresses]}
    return status


def is_told(rendered: Mapping[str, Any], pod: Pod) -> bool:
    """Say whether the API has what was rendered, as far as anybody decides by it. What others added is left alone."""
    told, said = pod.status, msgspec.convert(rendered, PodStatus)
    conditions = {condition.type: condition.status for condition in told.conditions}
    return (
        (told.phase, told.pod_ips, told.container_statuses) == (said.phase, said.pod_ips, said.container_statuses)
    ) and all(conditions.get(condition.type) == condition.status for condition in said.conditions)


def told(pod: Pod) -> Mapping[str, Any]:
    """Return what the API has as far as `render` goes on from it: since when conditions hold."""
    return {
        "conditions": [
            {"type": each.type, "status": each.status, "lastTransitionTime": _stamp(each.last_transition_time)}
            for each in pod.status.conditions
            if each.last_transition_time is not None
        ]
    }


def found_ready(pod: Pod, record: SandboxRecord) -> frozenset[str]:
    """Return the containers that are as ready as the API says: what runs now is what was ready then."""
    return frozenset(
        told.name
        for told in pod.status.container_statuses
        if told.ready and (known := record.container(told.name)).running and known.restarts == told.restart_count
    )


def _conditions(pod: Pod, observed: Observed, *, before: Mapping[str, Any], now: datetime) -> list[dict[str, Any]]:
    wired = observed.record is not None and bool(observed.record.addresses)
    unready = sorted({container.name for container in pod.spec.containers or ()} - observed.ready)
    ended = phase(pod, observed.record) in {"Succeeded", "Failed"}
    reason = "PodCompleted" if ended else "ContainersNotReady"
    missing = {} if not unready else {"reason": reason, "message": f"containers with unready status: {unready}"}
    is_ready = wired and not unready
    said = [
        ("PodScheduled", True, {}),
        ("PodReadyToStartContainers", wired, {}),
        ("Initialized", True, {}),
        ("ContainersReady", is_ready, missing),
        ("Ready", is_ready, missing),
    ]
    known = {condition["type"]: condition for condition in before.get("conditions", ())}
    return [_condition(kind, holds, known.get(kind, {}), now) | extra for kind, holds, extra in said]


def _condition(kind: str, holds: bool, before: Mapping[str, Any], now: datetime) -> dict[str, Any]:  # noqa: FBT001
    status = "True" if holds else "False"
    since = before.get("lastTransitionTime") if before.get("status") == status else None
    return {"type": kind, "status": status, "lastTransitionTime": since or _stamp(now)}


def _container(pod: Pod, container: Container, observed: Observed) -> dict[str, Any]:
    record = observed.record.container(container.name) if observed.record else ContainerRecord(name=container.name)
    running = bool(record.running)
    status = {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "ready": container.name in observed.ready,
        "started": running,
        "restartCount": record.restarts,
        "state": _state(pod, record, observed.waiting.get(container.name)),
    }
    if record.finished_at is not None and not has_finished(pod, record):
        status["lastState"] = {"terminated": _terminated(record)}
    return status


def _state(pod: Pod, record: ContainerRecord, waiting: Waiting | None) -> dict[str, Any]:
    if record.running and record.started_at is not None:
        return {"running": {"startedAt": _stamp(record.started_at)}}
    if has_finished(pod, record):
        return {"terminated": _terminated(record)}
    why = waiting or Waiting(reason=CREATING)
    return {"waiting": {"reason": why.reason} | ({"message": why.message} if why.message else {})}


def _terminated(record: ContainerRecord) -> dict[str, Any]:
    terminated: dict[str, Any] = {
        "exitCode": 137 if record.exit_code is None else record.exit_code,
        "reason": "Completed" if record.exit_code == 0 else "Error",
    }
    for key, moment in (("startedAt", record.started_at), ("finishedAt", record.finished_at)):
        if moment is not None:
            terminated[key] = _stamp(moment)
    return terminated


def _stamp(moment: datetime) -> str:
    """Spell a time as metav1.Time does: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
