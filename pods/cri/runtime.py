"""The runtime of a node with containerd or CRI-O, behind what `pods` asks of any runtime.

Nothing is written down here: sandboxes and containers carry labels, and their runtime keeps them over our death. A
sandbox's name in the runtime is the pod's, so a second one for the same pod is refused there while the first exists.
"""

import math
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import msgspec
import structlog

from kube.objects import Container, Pod
from pods import log_files
from pods.cri import configs, records
from pods.cri import runtime_pb2 as cri
from pods.cri.changes import Changes
from pods.cri.client import CriClient, CriError
from pods.cri.configs import Place
from pods.record import ContainerRecord, SandboxRecord
from pods.runtime import CannotStart, RuntimeFailed

log = structlog.get_logger(__name__)

_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})


class CriRuntime:
    """Pods of one node as containers. With `pull` the runtime may fetch images it does not have."""

    def __init__(self, client: CriClient, place: Place, *, pull: bool) -> None:
        self._client = client
        self._place = place
        self._pull = pull
        self._wake: Callable[[str], None] = lambda _: None
        self._changes: Changes | None = None

    def follow(self, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self._changes = Changes(self._client, configs.ours(self._place), wake)

    def close(self) -> None:
        if self._changes is not None:
            self._changes.close()
        self._client.close()

    def left(self) -> Iterator[SandboxRecord]:
        """Yield our sandboxes, the newest of a pod last."""
        found = self._client.sandboxes(configs.ours(self._place))
        for sandbox in sorted(found, key=lambda each: each.created_at):
            if (record := self._read(sandbox.id)) is not None:
                yield record

    # --- sandboxes

    def make(self, pod: Pod) -> SandboxRecord:
        uid = pod.metadata.uid
        self._remove_sandboxes(uid)
        Path(self._place.log_directory(uid)).mkdir(parents=True, exist_ok=True)
        made = self._client.run_sandbox(configs.sandbox(pod, self._place))
        record = self._read(made)
        if record is None or not record.addresses:
            self._remove_sandboxes(uid)
            raise RuntimeFailed(f"the runtime made the sandbox {made} without an address")
        return record

    def adopt(self, record: SandboxRecord) -> SandboxRecord | None:
        return self._read(record.sandbox_id)

    def look(self, record: SandboxRecord) -> SandboxRecord | None:
        try:
            status = self._client.sandbox(record.sandbox_id).status
        except CriError as error:
            if error.is_missing:
                return None
            raise
        if status.state != cri.SANDBOX_READY:
            return None
        for container in record.running:
            record = record.with_container(self._look_at(container))
        return record

    def _look_at(self, container: ContainerRecord) -> ContainerRecord:
        try:
            status = self._client.container(container.running)
        except CriError as error:
            if not error.is_missing:
                raise
            return msgspec.structs.replace(container, running="", exit_code=None, finished_at=datetime.now(UTC))
        return records.seen(container, status)

    def remember(self, record: SandboxRecord) -> None:
        """The runtime remembers."""

    def release(self, record: SandboxRecord) -> SandboxRecord:
        self._client.stop_sandbox(record.sandbox_id)
        return msgspec.structs.replace(record, released=True)

    def remove(self, record: SandboxRecord) -> None:
        self._client.stop_sandbox(record.sandbox_id)
        self._client.remove_sandbox(record.sandbox_id)

    def clear(self, uid: str) -> None:
        self._remove_sandboxes(uid)
        shutil.rmtree(self._place.log_directory(uid), ignore_errors=True)

    def _remove_sandboxes(self, uid: str) -> None:
        for sandbox in self._client.sandboxes(configs.ours(self._place, uid)):
            self._client.stop_sandbox(sandbox.id)
            self._client.remove_sandbox(sandbox.id)

    def _read(self, sandbox: str) -> SandboxRecord | None:
        """Return the record of a sandbox as the runtime has it; None when it is gone."""
        try:
            answer = self._client.sandbox(sandbox, verbose=True)
            found = self._client.containers(configs.ours(self._place), sandbox=sandbox)
            statuses = [self._client.container(each.id) for each in found]
        except CriError as error:
            if error.is_missing:
                return None
            raise
        return records.sandbox(answer, statuses, hosts=self._place.hosts)

    # --- containers

    def start(self, pod: Pod, container: Container, sandbox: SandboxRecord) -> str:
        config = configs.container(pod, container, self._place, sandbox)
        if (running := self._make_room(sandbox, config.metadata)) is not None:
            return running
        self._ensure_image(container)
        try:
            made = self._client.create_container(sandbox.sandbox_id, config, configs.sandbox(pod, self._place))
        except CriError as error:
            raise _refused("CreateContainerError", error) from error
        try:
            self._client.start_container(made)
        except CriError as error:
            raise _refused("RunContainerError", error) from error
        return made

    def _make_room(self, sandbox: SandboxRecord, wanted: cri.ContainerMetadata) -> str | None:
        """Remove what an attempt of this number left, and what is older than the last; return what runs already."""
        for found in self._client.containers(configs.ours(self._place), sandbox=sandbox.sandbox_id):
            if found.metadata.name != wanted.name:
                continue
            if found.state == cri.CONTAINER_RUNNING:
                return found.id
            if found.metadata.attempt != wanted.attempt - 1:
                self._client.remove_container(found.id)
        return None

    def _ensure_image(self, container: Container) -> None:
        """Have the image, by fetching it if that is allowed. One that is here is never fetched again."""
        if self._client.has_image(container.image):
            return
        if not self._pull or container.image_pull_policy == "Never":
            raise CannotStart(
                "ErrImageNeverPull",
                f"the image {container.image!r} is not on this node and may not be pulled; "
                "import it: ctr --namespace k8s.io images import FILE",
            )
        log.info("image is pulled", image=container.image)
        try:
            self._client.pull_image(container.image)
        except CriError as error:
            raise CannotStart("ErrImagePull", error.details) from error

    def ask_to_end(self, sandbox: SandboxRecord, grace: float) -> None:
        for container in sandbox.running:
            threading.Thread(
                target=self._stop, args=(sandbox.uid, container.running, math.ceil(grace)), name="stop", daemon=True
            ).start()

    def _stop(self, uid: str, container: str, grace: int) -> None:
        try:
            self._client.stop_container(container, grace=grace)
        except CriError as error:
            # The worker kills what has not ended in time.
            log.warning("container cannot be asked to end", container=container, error=str(error))
        self._wake(uid)

    def probe(self, command: tuple[str, ...], sandbox: SandboxRecord, container: str, *, seconds: float) -> str:
        try:
            done = self._client.execute(sandbox.container(container).running, command, seconds=math.ceil(seconds))
        except CriError as error:
            if error.code is grpc.StatusCode.UNAVAILABLE:
                raise  # a runtime that is away says nothing about the container
            return f"Readiness probe failed: {error.details}"
        words = (done.stdout + done.stderr).decode(errors="replace").strip()
        return f"Readiness probe failed: exit status {done.exit_code}: {words[-200:]}" if done.exit_code else ""

    def trim_logs(self) -> None:
        for container in self._client.containers(configs.ours(self._place)):
            path = Path(self._place.log_file(container.labels[configs.UID], container.metadata.name))
            if container.state == cri.CONTAINER_RUNNING and log_files.is_long(path):
                path.replace(log_files.predecessor(path))
                self._client.reopen_log(container.id)


def _refused(reason: str, error: CriError) -> Exception:
    """A runtime that is away is asked again; one that refuses will refuse this container again."""
    return error if error.code in _AWAY else CannotStart(reason, error.details)
