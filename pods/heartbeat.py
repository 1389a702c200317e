"""The runner's word that the node lives: its pods run, whatever became of the node agent.

The agent makes the node's Lease and renews it. The runner renews it as well, so that only a node whose agent and runner
are both silent counts as lost: a stopped agent must not cost the pods their traffic, or their lives.
"""

from typing import Final

from kube import leases
from kube.backoff import Backoff
from kube.control import ControlLoop, one_by_one
from kube.http import Client

_BACKOFF: Final = Backoff(first=0.2, longest=leases.RENEW_SECONDS / 2)


class Heartbeat:
    """Beats in the thread that calls `run`, until `stop`."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._loop: ControlLoop[str] = ControlLoop("heartbeat", backoff=_BACKOFF)
        self._loop.mark(node)

    def run(self) -> None:
        self._loop.run(one_by_one(self._renew))

    def stop(self) -> None:
        self._loop.stop()

    def _renew(self, node: str) -> None:
        leases.renew(self._client, node)
        self._loop.mark(node, after=leases.RENEW_SECONDS)
