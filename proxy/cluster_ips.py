"""Which Service has which cluster IP. The API gives each to one; should it not, the one that came first keeps it."""

from collections.abc import Iterable

from proxy.model import ServiceName
from proxy.planning import Draft


class ClusterIPTaken(Exception):
    """Two Services have the same cluster IP; the later one is not served."""

    def __init__(self, service: ServiceName, owner: ServiceName) -> None:
        super().__init__(service, owner)
        self.service = service
        self.owner = owner

    def __str__(self) -> str:
        return f"Service {self.service}: spec.clusterIP: belongs to Service {self.owner}"


class ClusterIPs:
    """Owners by address."""

    def __init__(self) -> None:
        self._owners: dict[bytes, ServiceName] = {}

    def leave(self, drafts: Iterable[Draft]) -> None:
        """Let go of what these Services no longer want; before any of the round claims, so that it can change hands."""
        for draft in drafts:
            for address in draft.old.cluster_ips - draft.new.cluster_ips:
                if self._owners.get(address) == draft.name:
                    del self._owners[address]

    def claim(self, draft: Draft) -> ClusterIPTaken | None:
        """Take what this Service wants, unless it has another owner."""
        for address in draft.new.cluster_ips:
            owner = self._owners.setdefault(address, draft.name)
            if owner != draft.name:
                return ClusterIPTaken(draft.name, owner)
        return None

    def restore(self, draft: Draft) -> None:
        """The kernel did not accept this draft: the Service still has what it had."""
        self.leave([Draft(name=draft.name, old=draft.new, new=draft.old)])
        for address in draft.old.cluster_ips:
            self._owners.setdefault(address, draft.name)
