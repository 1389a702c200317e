"""Which of a Service port's endpoints take new connections on this node.

Ready endpoints do. If none is ready, those that are shutting down but still serve do, so that the last pod of a
rollout is not cut off early. That fallback is made for the whole cluster and for this node each by itself: a node may
still serve with an endpoint that shuts down while others have ready ones. Topology hints narrow the cluster's endpoints
to this node's or its zone's, never this node's own.
"""

from collections.abc import Sequence

import msgspec

from proxy.model import Endpoint, Scope, Target


class Choice(msgspec.Struct, frozen=True):
    """The usable endpoints of each scope in the order given; `is_served` says whether there is any in the cluster.

    A client that finds nobody in its scope is dropped if somebody serves elsewhere, and refused if nobody does.
    """

    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    is_served: bool

    def of(self, scope: Scope) -> tuple[Endpoint, ...]:
        return self.cluster if scope is Scope.CLUSTER else self.local


def choose(endpoints: Sequence[Endpoint], *, node: str, zone: str = "") -> Choice:
    """Choose on the node of this name and zone."""
    ready = tuple([endpoint for endpoint in endpoints if endpoint.ready])
    cluster = _near(ready, node, zone) or _leaving(endpoints)
    here = [endpoint for endpoint in endpoints if endpoint.node == node]
    local = tuple([endpoint for endpoint in here if endpoint.ready]) or _leaving(here)
    return Choice(cluster, local, is_served=bool(cluster))


def _leaving(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    return tuple([endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating])


def _near(ready: tuple[Endpoint, ...], node: str, zone: str) -> tuple[Endpoint, ...]:
    """Hints count only when every ready endpoint has one: else somebody would be left to nobody."""
    if not ready:
        return ready
    first = ready[0]
    if first.node_hints and all(endpoint.node_hints for endpoint in ready):
        same_node = tuple(endpoint for endpoint in ready if node in endpoint.node_hints)
        if same_node:
            return same_node
    if zone and first.zone_hints and all(endpoint.zone_hints for endpoint in ready):
        same_zone = tuple(endpoint for endpoint in ready if zone in endpoint.zone_hints)
        if same_zone:
            return same_zone
    return ready


def may_be_local(endpoint: Endpoint, node: str) -> bool:
    """A slice written by hand often does not say where its endpoints run."""
    return endpoint.node is None or endpoint.node == node


def answering(endpoints: Sequence[Endpoint]) -> frozenset[Target]:
    """The targets whose flows may go on, whether or not they take new ones."""
    return frozenset(endpoint.target for endpoint in endpoints if endpoint.ready or endpoint.serving)
