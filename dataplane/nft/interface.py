"""The door to one nft table: what the kernel's and the in-memory implementation both promise.

Reading serves restart and repair; nothing decides by it what is desired. Every write is one transaction: all of it
holds for the next packet, or nothing changed and the exception says which operations the kernel refused.

A packet that is on its way through the rules at that moment goes on by the old rules, but looks elements up in the new
maps: what rules lead to is deleted in a later transaction than the rules themselves.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from dataplane.errors import DataplaneError, NotFound
from dataplane.nft.objects import Chain, Element, Expiring, InstalledRule, Operation, Passed, Table


class Failure(msgspec.Struct, frozen=True):
    """One refused operation, at most one of each. `element` is the position of the refused element within it."""

    index: int
    code: int
    element: int | None = None
    detail: str = ""


class TransactionFailed(DataplaneError):
    """Nothing was changed. `failures` is ordered by operation, and empty when the kernel refused the batch as a whole.

    The kernel goes on after a refused operation, so later failures may only be consequences of the first.
    """

    def __init__(self, request: str, code: int, *, failures: tuple[Failure, ...] = (), detail: str = "") -> None:
        super().__init__(request, code, detail=detail)
        self.failures = failures


class TableMissing(NotFound):
    """Somebody deleted the table, or it was never loaded: load the skeleton and write everything again."""


class GenerationChanged(DataplaneError):
    """Somebody committed a transaction since the generation was read. Nothing was changed: read again and retry."""


class LoadFailed(DataplaneError):
    """nft did not accept the text; `detail` is its own message, with the line."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction of anybody that touched a table. When events were lost `table` is empty: any table may have changed."""

    table: str
    family: int
    port_id: int  # of the netlink socket that sent it
    process_id: int
    command: str  # of that process or thread, as /proc/PID/comm
    what: frozenset[str]  # e.g. {"new rule", "delete element"}

    def touches(self, table: Table) -> bool:
        return not self.table or (self.table, self.family) == (table.name, table.family)


class Monitor(Protocol):
    """A subscription to the changes of all tables in the namespace, except those made through its own `Nft`."""

    def changes(self) -> Iterator[Change]:
        """Wait for changes and yield them until `stop`."""

    def stop(self) -> None:
        """Let `changes` end: from any thread, before it begins or after it ended."""

    def close(self) -> None: ...


class Nft(Protocol):
    """One nft table."""

    table: Table

    def load(self, ruleset: str) -> None:
        """Run nft text as one transaction. Raises LoadFailed."""

    def commit(self, operations: Sequence[Operation], *, generation: int | None = None) -> None:
        """Apply operations in order, as one transaction. Raises TransactionFailed or TableMissing.

        Given a generation, raises GenerationChanged if it is no longer the current one: what was read since has changed.
        """

    def settle(self) -> None:
        """Wait until every packet that may still follow the rules of before the last commit has left them.

        A packet keeps the rules it began with, but each look-up of it sees a map as it is at that moment: what old rules
        look up must outlive them by this long.
        """

    def generation(self) -> int:
        """The number of the namespace's ruleset: every transaction by anybody on any table changes it."""

    def table_exists(self) -> bool: ...

    def chains(self) -> tuple[Chain, ...]:
        """All chains of the table, base chains too."""

    def rules(self, chain: str) -> tuple[InstalledRule, ...]:
        """The rules of one chain in order; cheap however many chains there are. A missing chain has none."""

    def all_rules(self) -> Mapping[str, tuple[InstalledRule, ...]]:
        """The rules of every chain that has some, in one dump."""

    def elements(self, set_name: str) -> tuple[Element, ...]:
        """The elements of a set or map, in no order. Raises NotFound."""

    def element(self, set_name: str, key: bytes) -> Element | None:
        """One element by its key, however many there are; None without it, its set or the table."""

    def counters(self, set_name: str) -> Mapping[bytes, Passed]:
        """What each element's counter has seen, by the element's key. Raises NotFound.

        While the set changes, some may be missing: it is meant for reading again and again, beside the writing.
        """

    def expiring(self, set_name: str) -> tuple[Expiring, ...]:
        """The elements of a set with timeouts, and what is left of each one's. Raises NotFound.

        While the kernel adds some, others may be missing.
        """

    def list_ruleset(self) -> str:
        """The table as text, for people. Raises NotFound."""

    def delete_table(self) -> None:
        """Delete the table with everything in it; an absent one is success."""

    def monitor(self) -> Monitor:
        """Subscribe to what others change, from now on. One at a time."""
