"""Keeps this node's entry in the API true: creates it, and says again what somebody made it forget."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog

from dataplane.netlink.objects import Address
from kube import resources
from kube.errors import AlreadyExists, NotFound
from kube.http import STRATEGIC_MERGE_PATCH, Client
from kube.objects import Node
from node import registration
from node.registration import Claim, Identity

log = structlog.get_logger(__name__)


# Two agents under one name would overwrite each other as fast as the API can tell them.
CONTEST_SECONDS: Final = 30.0


class Registrar:
    def __init__(
        self,
        open_client: Callable[[], Client],
        identity: Identity,
        own_node: Callable[[], Node | None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_client = open_client
        self._client = open_client()
        self._identity = identity
        self._own_node = own_node
        self._clock = clock
        self._last_said: tuple[str, Claim] | None = None
        self._confirmed: tuple[Address, ...] = ()  # what the API has said our addresses are, when it was right
        self._quiet_until = 0.0

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
        patch = registration.status_patch(node, self._identity, claim, datetime.now(UTC))
        if patch is None or "addresses" not in patch["status"]:
            self._confirmed = claim.addresses
        elif self._confirmed == claim.addresses and not self._may_contest(node, claim):
            return
        said = (node.metadata.resource_version, claim)
        if patch is not None and said != self._last_said:  # else the watch is a little behind
            self._patch(patch, claim)
            self._last_said = said

    def _may_contest(self, node: Node, claim: Claim) -> bool:
        """Whether it is time to say again what somebody else has overwritten."""
        if self._clock() < self._quiet_until:
            return False
        self._quiet_until = self._clock() + CONTEST_SECONDS
        log.warning(
            "another program gives this node another address: does a second machine run podwire-node under this name?"
            " Give each machine its own --node-name",
            node=self._identity.name,
            ours=" ".join(map(str, claim.addresses)),
            theirs=" ".join(each.address for each in node.status.addresses if each.type == "InternalIP"),
        )
        return True

    def _create(self, claim: Claim) -> None:
        try:
            self._client.create(resources.NODES, registration.new_node(self._identity, claim, datetime.now(UTC)))
            log.info("node registered", node=self._identity.name, **_said(claim))
        except AlreadyExists:  # the watch is a little behind; what it brings is compared then
            pass

    def _patch(self, patch: dict[str, object], claim: Claim) -> None:
        name = self._identity.name
        try:
            self._client.patch(resources.NODES, name, patch, subresource="status", content_type=STRATEGIC_MERGE_PATCH)
            log.info("node status written", **_said(claim))
        except NotFound:  # deleted a moment ago: the watch says so soon, and calls again
            log.info("node is gone from the API", node=name)


def _said(claim: Claim) -> dict[str, object]:
    readiness = claim.readiness
    said = {"ready": readiness.ready, "message": readiness.message} if readiness else {}
    return {"addresses": " ".join(map(str, claim.addresses)), **said}
