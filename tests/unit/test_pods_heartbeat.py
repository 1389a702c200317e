"""The runner's part in the node's Lease."""

import threading
from typing import Any

from kube.errors import NotFound
from pods.heartbeat import Heartbeat
from tests.waiting import eventually


class Leases:
    """What a client does to Leases; `names` are there."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked: list[str] = []
        self.renewed: list[dict[str, Any]] = []

    def patch(self, _resource: object, name: str, patch: dict[str, Any], namespace: str) -> None:
        self.asked.append(f"{namespace}/{name}")
        if name not in self.names:
            raise NotFound(name)
        self.renewed.append(patch["spec"])


def beats(leases: Leases) -> None:
    """Let a heartbeat beat once, and end it."""
    heartbeat = Heartbeat(leases, "n1")
    thread = threading.Thread(target=heartbeat.run)
    thread.start()
    eventually(lambda: leases.asked)
    heartbeat.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_the_lease_of_the_node_is_renewed_at_once() -> None:
    leases = Leases("n1")
    beats(leases)
    assert [spec["holderIdentity"] for spec in leases.renewed] == ["n1"]


def test_a_lease_that_is_not_there_is_left_to_the_agent() -> None:
    leases = Leases()
    beats(leases)
    assert (leases.asked, leases.renewed) == (["kube-node-lease/n1"], [])
