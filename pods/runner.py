"""The pods of a node: those bound to it, as the API has them, become PodWorkers.

Nothing is done before the list of pods is complete: until then nobody can say which of the pods on the node are to
stay. SIGTERM ends the runner and leaves the pods running; its successor adopts them.
"""

import threading
from typing import Final

import structlog

from dataplane.errors import DataplaneError
from kube.backoff import Backoff
from kube.http import Client
from kube.informer import Informer
from kube.objects import Pod
from kube.resources import PODS
from kube.termination import Termination
from pods.heartbeat import Heartbeat
from pods.publisher import PodKey, key_of
from pods.record import SandboxRecord
from pods.runtime import RuntimeFailed
from pods.worker import PodHost, PodWorker

log = structlog.get_logger(__name__)

_BACKOFF: Final = Backoff(first=0.1, longest=5.0)
_LOOK_AT_LOGS: Final = 30.0  # seconds


class Runner:
    """The workers of all pods of the node, by pod. `left` is what earlier runners left."""

    def __init__(self, host: PodHost, left: tuple[SandboxRecord, ...]) -> None:
        self._host = host
        self._workers: dict[PodKey, PodWorker] = {}
        self._changing = threading.Lock()
        self._left = {PodKey(record.namespace, record.name, record.uid): record for record in left}

    def on_pod(self, old: Pod | None, new: Pod | None) -> None:
        """Give the object to its worker. The same name with another uid is another pod: the old one is gone."""
        with self._changing:
            if old is not None and (new is None or key_of(old) != key_of(new)):
                self._tell(key_of(old), None)
            if new is not None:
                self._tell(key_of(new), new)

    def wake(self, uid: str) -> None:
        """Something of this pod changed on the node."""
        with self._changing:
            workers = [worker for key, worker in self._workers.items() if key.uid == uid]
        for worker in workers:
            worker.wake()

    def remove_unknown(self) -> None:
        """Take down what earlier runners left of pods that the API no longer knows."""
        with self._changing:
            for key in tuple(self._left):
                log.info("pod is gone from the API", pod=f"{key.namespace}/{key.name}")
                self._tell(key, None)

    def stop(self) -> None:
        with self._changing:
            workers = tuple(self._workers.values())
        for worker in workers:
            worker.stop()

    def _tell(self, key: PodKey, pod: Pod | None) -> None:
        record = self._left.pop(key, None)
        if worker := self._workers.get(key):
            worker.update(pod)
        elif pod is not None or record is not None:
            worker = PodWorker(key, self._host, record=record, on_end=self._forget)
            self._workers[key] = worker
            worker.start(pod)

    def _forget(self, key: PodKey) -> None:
        with self._changing:
            self._workers.pop(key, None)


def serve(host: PodHost, client: Client, node_name: str) -> None:
    """Follow the node's pods until SIGTERM."""
    termination = Termination()
    left = _await_left(host, termination)
    if left is None:
        return
    runner = Runner(host, left)
    pods = Informer(client, PODS, Pod, field_selector=f"spec.nodeName={node_name}")
    heartbeat = Heartbeat(client, node_name)
    threading.Thread(target=heartbeat.run, name="heartbeat", daemon=True).start()
    host.publisher.start()
    host.runtime.follow(runner.wake)
    pods.cache.subscribe(runner.on_pod)
    pods.start()
    if _await_list(pods, termination):
        runner.remove_unknown()
        _trim_logs_until(termination, host)
    heartbeat.stop()
    pods.stop()
    runner.stop()
    host.runtime.close()
    host.publisher.stop()


def _await_left(host: PodHost, termination: Termination) -> tuple[SandboxRecord, ...] | None:
    """Ask what earlier runners left until the runtime answers; None when asked to stop."""
    failures = 0
    while not termination.is_asked_for:
        try:
            return tuple(host.runtime.left())
        except RuntimeFailed as error:
            failures += 1
            if failures in {1, 20}:
                log.warning("the runtime does not answer yet", error=str(error))
            termination.wait(_BACKOFF.delay(failures))
    return None


def _await_list(pods: Informer[Pod], termination: Termination) -> bool:
    while not pods.cache.synced.wait(0.5):
        if termination.is_asked_for:
            return False
    return True


def _trim_logs_until(termination: Termination, host: PodHost) -> None:
    while not termination.wait(_LOOK_AT_LOGS):
        try:
            host.runtime.trim_logs()
        except (RuntimeFailed, DataplaneError, OSError) as error:
            log.warning("logs cannot be trimmed", error=str(error))
