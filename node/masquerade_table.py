"""Keeps the agent's nft table what it should be: loaded when it differs, left alone when it does not."""

import structlog

from dataplane.errors import NotFound
from dataplane.nft.interface import Nft
from node import masquerade
from node.members import Cluster

log = structlog.get_logger(__name__)


class MasqueradeTable:
    def __init__(self, nft: Nft, own_name: str) -> None:
        self._nft = nft
        self._own_name = own_name
        self._loaded = ""
        self._listed = ""

    def sync(self, cluster: Cluster) -> None:
        """Load the table, as one transaction, unless the kernel has it."""
        wanted = masquerade.render(cluster, self._own_name)
        found = self._listing()
        if masquerade.is_listed_as(wanted, found) or self._is_unchanged(wanted, found):
            return
        self._nft.load(masquerade.replacement(wanted))
        self._loaded, self._listed = wanted, self._listing()
        log.info("masquerade table loaded", replaced=bool(found))

    def _is_unchanged(self, wanted: str, found: str) -> bool:
        """Whether it is as it was right after loading, should this version of nft list it in other words than ours."""
        return (wanted, found) == (self._loaded, self._listed)

    def _listing(self) -> str:
        try:
            return self._nft.list_ruleset()
        except NotFound:
            return ""
