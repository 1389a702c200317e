"""Tells the API what became of pods: statuses, and that a deleted pod is gone.

Its own thread, so that pods are tended while the API server is away. Only the newest status of a pod is kept; it is
sent until the server has it, or has no such pod.
"""

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import structlog

from kube.backoff import Backoff
from kube.control import ControlLoop, SyncFailed
from kube.errors import ApiError, Conflict, Invalid, NotFound, Unreachable
from kube.http import Client
from kube.objects import Pod
from kube.resources import PODS

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(first=0.05, longest=2.0)


class PodKey(NamedTuple):
    """One pod for good: a later one of the same name has another uid."""

    namespace: str
    name: str
    uid: str


def key_of(pod: Pod) -> PodKey:
    return PodKey(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)


class Publisher:
    """The newest word on each pod, on its way to the API."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._words: dict[PodKey, Mapping[str, Any] | None] = {}  # None: the pod is gone from the node
        self._loop: ControlLoop[PodKey] = ControlLoop("pod-status", backoff=_BACKOFF)
        self._thread = threading.Thread(target=self._loop.run, args=(self._send,), name="publisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._loop.stop()

    def status(self, key: PodKey, status: Mapping[str, Any]) -> None:
        self._words[key] = status
        self._loop.mark(key)

    def gone(self, key: PodKey) -> None:
        """Nothing of this pod is left on the node: its object may go."""
        self._words[key] = None
        self._loop.mark(key)

    def forget(self, key: PodKey) -> None:
        """The API has no such pod any more: there is nothing to say of it."""
        self._words.pop(key, None)

    def _send(self, keys: frozenset[PodKey]) -> None:
        failures: dict[Any, Exception] = {}
        for key in keys:
            try:
                self._send_one(key)
            except (ApiError, Unreachable) as error:
                failures[key] = error
        if failures:
            raise SyncFailed(failures)

    def _send_one(self, key: PodKey) -> None:
        try:
            word = self._words[key]
        except KeyError:
            return  # forgotten meanwhile
        try:
            if word is None:
                self._delete(key)
            else:
                self._patch(key, word)
        except NotFound:
            self.forget(key)

    def _patch(self, key: PodKey, word: Mapping[str, Any]) -> None:
        # With its uid the patch is refused for a later pod of the same name.
        patch = {"metadata": {"uid": key.uid}, "status": word}
        try:
            self._client.patch(PODS, key.name, patch, key.namespace, subresource="status")
        except Conflict:
            if self._is_current(key):
                raise
            self.forget(key)
        except Invalid as error:
            log.warning("pod status refused", pod=f"{key.namespace}/{key.name}", error=str(error))

    def _delete(self, key: PodKey) -> None:
        if self._is_current(key):
            self._client.delete(PODS, key.name, key.namespace, grace_period=0)
        self.forget(key)

    def _is_current(self, key: PodKey) -> bool:
        """Say whether the pod of that name is still this one. Raises NotFound."""
        return self._client.get(PODS, key.name, key.namespace, decode=Pod).metadata.uid == key.uid
