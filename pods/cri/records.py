"""What a runtime says of its sandboxes and containers, as the runner's records. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from pods.cri import runtime_pb2 as cri
from pods.record import ContainerRecord, SandboxRecord


class _Namespace(msgspec.Struct, frozen=True):
    type: str = ""
    path: str = ""


class _Linux(msgspec.Struct, frozen=True):
    namespaces: tuple[_Namespace, ...] = ()


class _Spec(msgspec.Struct, frozen=True):
    linux: _Linux = _Linux()


class _Info(msgspec.Struct, frozen=True, rename="camel"):
    """The part of a verbose answer that containerd and CRI-O have in common."""

    runtime_spec: _Spec | None = None


_INFO: Final = msgspec.json.Decoder(_Info)


def sandbox(
    answer: cri.PodSandboxStatusResponse, containers: Iterable[cri.ContainerStatus], *, hosts: tuple[str, ...]
) -> SandboxRecord:
    """Return the record of a sandbox with the newest of each container. One without a network of its own has `hosts`."""
    status = answer.status
    netns = _netns(answer.info.get("info", ""))
    own = (status.network.ip, *(each.ip for each in status.network.additional_ips))
    return SandboxRecord(
        uid=status.metadata.uid,
        namespace=status.metadata.namespace,
        name=status.metadata.name,
        sandbox_id=status.id,
        made_at=_moment(status.created_at),
        netns=netns,
        addresses=tuple(address for address in own if address) or (() if netns else hosts),
        released=status.state != cri.SANDBOX_READY,
        containers=_newest(containers),
    )


def _netns(info: str) -> str:
    """Return the path of the sandbox's network namespace; empty when it is the node's, or not told."""
    try:
        spec = _INFO.decode(info).runtime_spec or _Spec()
    except msgspec.MsgspecError:
        return ""
    return next((each.path for each in spec.linux.namespaces if each.type == "network"), "")


def _newest(containers: Iterable[cri.ContainerStatus]) -> tuple[ContainerRecord, ...]:
    attempts: dict[str, list[cri.ContainerStatus]] = {}
    for status in sorted(containers, key=lambda status: status.metadata.attempt):
        if status.state != cri.CONTAINER_CREATED:
            attempts.setdefault(status.metadata.name, []).append(status)
    return tuple(_container(name, some) for name, some in attempts.items())


def _container(name: str, attempts: list[cri.ContainerStatus]) -> ContainerRecord:
    last = attempts[-1]
    if last.state != cri.CONTAINER_RUNNING:
        return ended(ContainerRecord(name=name, restarts=last.metadata.attempt), last)
    before = ended(ContainerRecord(name=name), attempts[-2]) if len(attempts) > 1 else ContainerRecord(name=name)
    return msgspec.structs.replace(
        before, running=last.id, started_at=_moment(last.started_at), restarts=last.metadata.attempt
    )


def seen(record: ContainerRecord, status: cri.ContainerStatus) -> ContainerRecord:
    """Return the record of a container that ran when it was last seen: what runs has started when the runtime says so."""
    if status.state == cri.CONTAINER_RUNNING:
        return msgspec.structs.replace(record, started_at=_moment(status.started_at))
    return ended(record, status)


def ended(record: ContainerRecord, status: cri.ContainerStatus) -> ContainerRecord:
    """Return the record of a container that ended so."""
    finished = status.finished_at or status.created_at
    # One that could not be started has no start; of one that ended at once containerd notes the start after the end.
    started = min(status.started_at or status.created_at, finished)
    return msgspec.structs.replace(
        record,
        running="",
        started_at=_moment(started),
        finished_at=_moment(finished),
        exit_code=status.exit_code,
    )


def _moment(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
