"""Keeps the agent's nft tables what they should be: loaded when one differs, left alone when it does not."""

import structlog

from dataplane.errors import NotFound
from dataplane.nft.interface import Nft
from dataplane.nft.objects import Table
from node import masquerade
from node.members import Cluster

log = structlog.get_logger(__name__)


class MasqueradeTable:
    """One family's. That of IPv6 is made when this node gives IPv6 addresses."""

    def __init__(self, nft: Nft, table: Table, own_name: str) -> None:
        self._nft = nft
        self._table = table
        self._own_name = own_name
        self._loaded = ""
        self._listed = ""

    def sync(self, cluster: Cluster) -> None:
        """Load the table, as one transaction, unless the kernel has it."""
        wanted = masquerade.render(cluster, self._own_name, self._table)
        found = self._listing()
        if not (found or self._is_needed(cluster)):
            return
        if masquerade.is_listed_as(wanted, found) or self._is_unchanged(wanted, found):
            return
        self._nft.load(masquerade.replacement(self._table, wanted))
        self._loaded, self._listed = wanted, self._listing()
        log.info("masquerade table loaded", table=str(self._table), replaced=bool(found))

    def _is_needed(self, cluster: Cluster) -> bool:
        own = cluster.member(self._own_name)
        return self._table == masquerade.TABLE or (own is not None and own.has_pods_of(6))

    def _is_unchanged(self, wanted: str, found: str) -> bool:
        """Whether it is as it was right after loading, should this version of nft list it in other words than ours."""
        return (wanted, found) == (self._loaded, self._listed)

    def _listing(self) -> str:
        try:
            return self._nft.list_ruleset()
        except NotFound:
            return ""
