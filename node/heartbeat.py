"""This node's Lease: renewed all the time, as a kubelet renews its own, so that the cluster notices when it stops.

It has a thread and connections of its own: a slow answer to another question must not look like a dead node. Where a
kubelet runs the Lease is the kubelet's.
"""

from collections.abc import Callable

import structlog

from kube import leases, resources
from kube.errors import AlreadyExists
from kube.http import Client
from kube.objects import Node
from node import registration

log = structlog.get_logger(__name__)


class Heartbeat:
    def __init__(self, client: Client, own_node: Callable[[], Node | None]) -> None:
        self._client = client
        self._own_node = own_node

    def sync(self, name: str) -> None:
        """Renew the Lease once, if this node's entry is ours and there."""
        node = self._own_node()
        if node is None or not registration.is_ours(node):
            return
        if not leases.renew(self._client, name):
            self._create(node)

    def _create(self, node: Node) -> None:
        name = node.metadata.name
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.metadata.uid}
        metadata = {"name": name, "namespace": leases.NAMESPACE, "ownerReferences": [owner]}
        try:
            body = {"metadata": metadata, "spec": leases.renewed(name)}
            self._client.create(resources.LEASES, body, leases.NAMESPACE)
            log.info("lease made", node=name)
        except AlreadyExists:  # another agent of this name: which of the two is one too many, the registrar says
            return
