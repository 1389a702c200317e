"""Which of a Service port's endpoints take new connections on this node.

Ready endpoints do. If none is ready, those that are shutting down but still serve do, so that the last pod of a
rollout is not cut off early. internalTrafficPolicy Local narrows the choice to this node before that fallback is made,
and a node without a choice drops what others would serve: the client of a Local Service must not be told that nobody
is there. Where nobody is there, connections are refused.
"""

from collections.abc import Sequence
from enum import Enum

import msgspec

from proxy.model import Endpoint, Target


class Refusal(Enum):
    """What happens to a connection no endpoint here may take."""

    REJECT = "reject"
    DROP = "drop"


class Choice(msgspec.Struct, frozen=True):
    """The usable endpoints in the order given; `refusal` is set exactly when there are none."""

    usable: tuple[Endpoint, ...]
    refusal: Refusal | None = None


def choose(endpoints: Sequence[Endpoint], *, local_only: bool, node: str) -> Choice:
    """Choose for the cluster IP; `node` is the name of the node this runs on."""
    candidates = [endpoint for endpoint in endpoints if endpoint.node == node] if local_only else endpoints
    if usable := _usable(candidates):
        return Choice(usable)
    return Choice((), Refusal.DROP if _usable(endpoints) else Refusal.REJECT)


def _usable(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    ready = tuple(endpoint for endpoint in endpoints if endpoint.ready)
    return ready or tuple(endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating)


def may_be_local(endpoint: Endpoint, node: str) -> bool:
    """A slice written by hand often does not say where its endpoints run."""
    return endpoint.node is None or endpoint.node == node


def answering(endpoints: Sequence[Endpoint]) -> frozenset[Target]:
    """The targets whose flows may go on, whether or not they take new ones."""
    return frozenset(endpoint.target for endpoint in endpoints if endpoint.ready or endpoint.serving)
