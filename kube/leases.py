"""A node's Lease, as kubelets keep it: whoever can say that the node lives renews it, the server looks how old it is."""

from datetime import UTC, datetime
from typing import Any, Final

from kube.errors import NotFound
from kube.http import Client
from kube.resources import LEASES

NAMESPACE: Final = "kube-node-lease"
# As kubelets do: a quarter of the time after which a node counts as lost.
RENEW_SECONDS: Final = 10.0
_DURATION_SECONDS: Final = 40


def renew(client: Client, node: str) -> bool:
    """Renew the Lease of a node; False if there is none. Raises ApiError, Unreachable."""
    try:
        client.patch(LEASES, node, {"spec": renewed(node)}, NAMESPACE)
    except NotFound:
        return False
    return True


def renewed(node: str) -> dict[str, Any]:
    """The spec of a Lease that is renewed now."""
    return {
        "holderIdentity": node,
        "leaseDurationSeconds": _DURATION_SECONDS,
        "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),  # metav1.MicroTime
    }
