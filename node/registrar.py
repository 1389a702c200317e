"""Keeps this node's entry in the API true: creates it, and says again what somebody made it forget."""

import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata

import structlog

from kube import resources
from kube.errors import AlreadyExists, NotFound
from kube.http import STRATEGIC_MERGE_PATCH, Client
from kube.objects import Node
from node import registration
from node.registration import Claim, Identity

log = structlog.get_logger(__name__)


class Registrar:
    def __init__(
        self, open_client: Callable[[], Client], identity: Identity, own_node: Callable[[], Node | None]
    ) -> None:
        self._open_client = open_client
        self._client = open_client()
        self._identity = identity
        self._own_node = own_node
        self._last_said: tuple[str, Claim] | None = None

    def reconnect(self) -> None:
        """Begin with new connections: one made from an address that this machine lost would wait out its timeouts."""
        self._client.close()
        self._client = self._open_client()

    def sync(self, claim: Claim) -> None:
        """Make the Node and its status say what the claim says. Raises what the API refuses."""
        node = self._own_node()
        if node is None:
            self._create(claim)
            return
        said = (node.metadata.resource_version, claim)
        patch = registration.status_patch(node, self._identity, claim, datetime.now(UTC))
        if patch is None or said == self._last_said:  # the watch is a little behind
            return
        try:
            self._patch(patch)
            self._last_said = said
            log.info("node status written", **_said(claim))
        except NotFound:  # deleted a moment ago: the watch says so soon, and calls again
            log.info("node is gone from the API", node=self._identity.name)

    def _create(self, claim: Claim) -> None:
        try:
            self._client.create(resources.NODES, registration.new_node(self._identity, claim, datetime.now(UTC)))
            log.info("node registered", node=self._identity.name, **_said(claim))
        except AlreadyExists:  # the watch is a little behind; what it brings is compared then
            pass

    def _patch(self, patch: dict[str, object]) -> None:
        self._client.patch(
            resources.NODES,
            self._identity.name,
            patch,
            subresource="status",
            content_type=STRATEGIC_MERGE_PATCH,
        )


def _said(claim: Claim) -> dict[str, object]:
    readiness = claim.readiness
    said = {"ready": readiness.ready, "message": readiness.message} if readiness else {}
    return {"address": str(claim.address), **said}


def machine() -> dict[str, str]:
    """What `kubectl get nodes -o wide` shows of this machine, as a kubelet would say it."""
    return {
        "kernelVersion": platform.release(),
        "osImage": _os_image(),
        "operatingSystem": "linux",
        "architecture": _architecture(),
        "kubeletVersion": f"podwire {metadata.version('podwire')}",
    }


def labels() -> dict[str, str]:
    return {"kubernetes.io/os": "linux", "kubernetes.io/arch": _architecture()}


def _architecture() -> str:
    """Go's name, which is Kubernetes' name, for the machine."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
