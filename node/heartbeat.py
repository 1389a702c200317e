"""This node's Lease: renewed all the time, as a kubelet renews its own, so that the cluster notices when it stops.

It has a thread and connections of its own: a slow answer to another question must not look like a dead node. Where a
kubelet runs the Lease is the kubelet's.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from kube import resources
from kube.errors import AlreadyExists, NotFound
from kube.http import Client
from kube.objects import Node
from node import registration

log = structlog.get_logger(__name__)

NAMESPACE: Final = "kube-node-lease"
# As kubelets do: a quarter of the time after which a node counts as lost.
RENEW_SECONDS: Final = 10.0
_DURATION_SECONDS: Final = 40


class Heartbeat:
    def __init__(self, client: Client, own_node: Callable[[], Node | None]) -> None:
        self._client = client
        self._own_node = own_node

    def sync(self, name: str) -> None:
        """Renew the Lease once, if this node's entry is ours and there."""
        node = self._own_node()
        if node is None or not registration.is_ours(node):
            return
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": _DURATION_SECONDS,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),  # metav1.MicroTime
        }
        try:
            self._client.patch(resources.LEASES, name, {"spec": spec}, NAMESPACE)
        except NotFound:
            self._create(node, spec)

    def _create(self, node: Node, spec: dict[str, Any]) -> None:
        owner = {"apiVersion": "v1", "kind": "Node", "name": node.metadata.name, "uid": node.metadata.uid}
        metadata = {"name": node.metadata.name, "namespace": NAMESPACE, "ownerReferences": [owner]}
        try:
            self._client.create(resources.LEASES, {"metadata": metadata, "spec": spec}, NAMESPACE)
            log.info("lease made", node=node.metadata.name)
        except AlreadyExists:  # another agent of this name: which of the two is one too many, the registrar says
            return
