"""Which Service has which cluster IP, external frontend and node port: the one that came first keeps it.

The API gives each cluster IP and node port to one Service, but anybody may write any externalIP.
"""

import ipaddress
from collections.abc import Iterable

from proxy.model import ServiceName
from proxy.served import NOT_SERVED, Claim, Draft


class ClusterIPTaken(Exception):
    """Two Services claim the same; the later one is not served."""

    def __init__(self, service: ServiceName, owner: ServiceName, claim: Claim) -> None:
        super().__init__(service, owner, claim)
        self.service = service
        self.owner = owner
        self.claim = claim

    def __str__(self) -> str:
        return f"Service {self.service}: {self._what}: belongs to Service {self.owner}"

    @property
    def _what(self) -> str:
        key = self.claim.key
        if len(key) in {4, 16}:
            return f"spec.clusterIP {ipaddress.ip_address(key)}"
        port = int.from_bytes(key[-4:-2], "big")
        if len(key) == 8:
            return f"spec.ports[].nodePort {port}"
        return f"address {ipaddress.ip_address(key[:-8])} with spec.ports[].port {port}"


class ClusterIPs:
    """Owners by claim."""

    def __init__(self) -> None:
        self._owners: dict[Claim, ServiceName] = {}

    def leave(self, drafts: Iterable[Draft]) -> None:
        """Let go of what these Services no longer want; before any of the round claims, so that it can change hands."""
        for draft in drafts:
            # A start drafts every Service of the cluster, and most drafts change no claim.
            for claim in draft.old.claims - draft.new.claims if not draft.old.is_empty else ():
                if self._owners.get(claim) == draft.name:
                    del self._owners[claim]

    def claim(self, draft: Draft) -> ClusterIPTaken | None:
        """Take what this Service wants, unless it has another owner."""
        claims = draft.new.claims
        taken = [claim for claim in claims if self._owners.get(claim, draft.name) != draft.name]
        if taken:
            first = min(taken)
            self.leave([Draft(name=draft.name, old=draft.old, new=NOT_SERVED)])
            return ClusterIPTaken(draft.name, self._owners[first], first)
        self._owners.update(dict.fromkeys(claims, draft.name))
        return None

    def restore(self, draft: Draft) -> None:
        """The kernel did not accept this draft: the Service still has what it had."""
        self.leave([Draft(name=draft.name, old=draft.new, new=draft.old)])
        for claim in draft.old.claims:
            self._owners.setdefault(claim, draft.name)
