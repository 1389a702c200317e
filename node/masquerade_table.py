"""Keeps the agent's nft table what it should be: loaded when it differs, left alone when it does not."""

from dataclasses import dataclass

import structlog

from dataplane.errors import NotFound
from dataplane.nft.interface import Nft
from dataplane.nft.objects import InstalledRule
from node import masquerade
from node.members import Cluster

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """What is in the table, read in a fraction of the time that nft needs to list it."""

    rules: tuple[InstalledRule, ...]
    bounds: tuple[tuple[bytes, ...], ...]  # where an interval begins and ends, set by set; neighbours share a bound


class MasqueradeTable:
    def __init__(self, nft: Nft, own_name: str) -> None:
        self._nft = nft
        self._own_name = own_name
        self._text = ""
        self._contents: _Contents | None = None

    def sync(self, cluster: Cluster) -> None:
        """Load the table, as one transaction, unless the kernel has it."""
        wanted = masquerade.render(cluster, self._own_name)
        if wanted == self._text and self._contents == self._read():
            return
        found = self._listing()
        if not masquerade.is_listed_as(wanted, found):
            self._nft.load(masquerade.replacement(wanted))
            log.info("masquerade table loaded", replaced=bool(found))
        self._text, self._contents = wanted, self._read()

    def _read(self) -> _Contents | None:
        try:
            sets = [self._nft.elements(name) for name in masquerade.SETS]
        except NotFound:
            return None
        bounds = tuple(tuple(sorted(element.key for element in elements)) for elements in sets)
        return _Contents(rules=self._nft.rules(masquerade.CHAIN), bounds=bounds)

    def _listing(self) -> str:
        try:
            return self._nft.list_ruleset()
        except NotFound:
            return ""
