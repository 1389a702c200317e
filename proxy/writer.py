"""The proxy's hand on its table: drafts go in as one transaction; what packets under way may still need leaves after it.

A chain is emptied in the transaction that stops using it and deleted in a later one: before Linux 6.2 a chain counts as
referenced for a moment after the map element that led to it is gone.

A table of another version is replaced behind a stand-in: a second table with the same content, which takes the packets
that find the maps of the old one empty.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import structlog

from dataplane.errors import NotFound
from dataplane.nft.interface import LoadFailed, Nft, TransactionFailed
from dataplane.nft.objects import AddChain, AddElements, Element, FlushChain, Operation, Table
from proxy import layout, text
from proxy import state as states
from proxy.here import Here
from proxy.restart import Found
from proxy.ruleset import NodeText, Ruleset
from proxy.served import Draft
from proxy.stale_chains import StaleChains
from proxy.state import State, Steps

log = structlog.get_logger(__name__)

STAND_IN: Final = "podwire-proxy-stand-in"
# What the kernel alone writes, and packets of connections that live longer than a table are judged by.
_REPLIERS: Final = "repliers"


class TableChanged(Exception):
    """A chain is not what was last written."""

    def __init__(self, chain: str) -> None:
        super().__init__(chain)
        self.chain = chain

    def __str__(self) -> str:
        return f"chain {self.chain} was changed by somebody else"


class LeftoversRemain(Exception):
    """The new state holds, but elements of the old one could not be deleted: read the table and start from there."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"elements that are no longer used stay behind: {self.reason}"


class Writer:
    """Writes one table."""

    def __init__(self, nft: Nft, ruleset: Ruleset) -> None:
        self._nft = nft
        self._ruleset = ruleset
        self._timeouts: frozenset[int] = frozenset()
        self._here = Here(node="")
        self._has_node_ports = False
        self._node_wanted = ruleset.node(self._here, has_node_ports=False)
        self._node_loaded: NodeText | None = None
        self._stand_in = Table(ruleset.table.family, STAND_IN)
        self.stale = StaleChains(nft)
        self.node_error: LoadFailed | None = None
        """Why what is known of the node is not in the table yet; Services do not wait for it."""

    def aim(self, here: Here) -> None:
        """From the next write on, the table is that of this node."""
        self._here = here
        self._node_wanted = self._ruleset.node(here, has_node_ports=self._has_node_ports)

    def write(self, drafts: Sequence[Draft]) -> int:
        """Commit drafts and return how many operations it took.

        One transaction makes the new state hold. Before it, new chains are made; after it, once packets under way have
        passed, what only they still needed is deleted. Raises TransactionFailed, TableMissing, TableChanged when nothing was changed, and LeftoversRemain.
        """
        self._ensure_affinity(_timeouts(drafts) - self._timeouts)
        if _has_node_ports(drafts):
            self._expect_node_ports()
        self._ensure_node()
        changes = [draft for draft in drafts if draft.old is not draft.new]
        old = states.union(draft.old.state for draft in changes)
        new = states.union(draft.new.state for draft in changes)
        operations = states.diff(old, new, self._handles(old, new))
        self._commit(states.in_steps(operations, new), is_served=bool(old.elements))
        self.stale.add(old.chains.keys())
        self.stale.discard(new.chains.keys())
        return len(operations)

    def _commit(self, steps: Steps, *, is_served: bool) -> None:
        """Commit the steps, apart only where packets may be under way to what is already served."""
        if steps.preparation and is_served:
            self._nft.commit(steps.preparation)
            self._nft.settle()
            self._change(steps.change, steps.preparation)
        elif first := steps.preparation + steps.change:
            self._nft.commit(first)
        if steps.clearance:
            self._clear(steps.clearance, after_change=bool(steps.preparation or steps.change))

    def _change(self, operations: Sequence[Operation], preparation: Sequence[Operation]) -> None:
        try:
            self._nft.commit(operations)
        except TransactionFailed:
            chains = [operation.chain.name for operation in preparation if isinstance(operation, AddChain)]
            self._nft.commit([FlushChain(chain) for chain in chains])
            self.stale.add(chains)
            raise

    def _clear(self, operations: Sequence[Operation], *, after_change: bool) -> None:
        if not after_change:
            self._nft.commit(operations)
            return
        self._nft.settle()
        try:
            self._nft.commit(operations)
        except TransactionFailed as error:
            raise LeftoversRemain(str(error)) from error

    def begin(self) -> None:
        """Make the table anew, without Services."""
        self._load_with_node(lambda node: f"{self._ruleset.replacement}\n{node.text}")
        self._timeouts = frozenset()
        self.stale.reset()

    def replace(self, found: Found, drafts: Sequence[Draft], affinity: Iterable[Element]) -> int:
        """Make the table anew, with these Services in it; no packet meets a table without them. Raises LoadFailed."""
        if found.has_localhost or _has_node_ports(drafts):
            self._expect_node_ports()
        table, timeouts = self._ruleset.table, _timeouts(drafts)
        services = (
            *(self._ruleset.affinity_chains(seconds) for seconds in sorted(timeouts)),
            text.format_state(states.union(draft.new.state for draft in drafts), table),
            text.format_affinity(affinity, table),
        )
        self._load_with_node(lambda node: self._renamed("\n".join((self._ruleset.replacement, node.text, *services))))
        self._nft.settle()
        remembered = tuple(self._remembered())
        self._load_with_node(lambda node: "\n".join((self._ruleset.replacement, node.text, *services)))
        if remembered:
            self._nft.commit(remembered)
        self._nft.settle()
        self._timeouts = timeouts
        self.stale.reset()
        return 1

    def _remembered(self) -> Iterator[AddElements]:
        length = layout.form(layout.SERVICES, self._ruleset.table.family)[0]
        # Another version's table may have no such set.
        with contextlib.suppress(NotFound):
            found = self._nft.elements(_REPLIERS)
            if elements := tuple(Element(element.key) for element in found if len(element.key) == length):
                yield AddElements(_REPLIERS, elements)

    def remove_stand_in(self) -> None:
        """The table is whole: let go of what stood in for it, if anything did, perhaps for a proxy that was killed."""
        try:
            self._nft.load(f"delete table {self._stand_in}")
        except LoadFailed:
            return
        log.info("the table was replaced behind a stand-in, which is gone now", table=str(self._stand_in))

    def _renamed(self, ruleset: str) -> str:
        """The same text, for the stand-in. A name in a comment has no space before it."""
        return re.sub(rf"\b{re.escape(str(self._ruleset.table))}(?=\s)", str(self._stand_in), ruleset)

    def adopt(self, found: Found) -> None:
        """Go on with a table that is there."""
        self._timeouts = found.timeouts(self._ruleset)
        if found.has_localhost:
            self._expect_node_ports()
        self._node_loaded = self._node_wanted if found.has_node(self._node_wanted) else None
        self.stale.reset(found.affinity_chains - layout.affinity_chains(self._timeouts))

    def retire_affinity(self, in_use: Iterable[int]) -> None:
        """Let go of the affinity chains of all other timeouts."""
        used = frozenset(in_use)
        if gone := self._timeouts - used:
            self.stale.add(layout.affinity_chains(gone) - layout.affinity_chains(used))
            self._timeouts &= used

    def _ensure_affinity(self, missing: Iterable[int]) -> None:
        for seconds in sorted(missing):
            self._nft.load(self._ruleset.affinity_chains(seconds))
            self._timeouts |= {seconds}
            self.stale.discard(layout.affinity_chains([seconds]))

    def _expect_node_ports(self) -> None:
        """From now on: when the last one goes, connections to it may go on."""
        if not self._has_node_ports:
            self._has_node_ports = True
            self.aim(self._here)

    def _ensure_node(self) -> None:
        if self._node_loaded == self._node_wanted:
            self.node_error = None
            return
        try:
            self._nft.load(self._node_wanted.text)
        except LoadFailed as error:
            self.node_error = error
        else:
            self._node_loaded, self.node_error = self._node_wanted, None

    def _load_with_node(self, ruleset: Callable[[NodeText], str]) -> None:
        """Load text that depends on the node; if that is what nft refuses, what was known of it before has to do."""
        try:
            self._nft.load(ruleset(self._node_wanted))
        except LoadFailed as error:
            before = self._node_loaded or self._ruleset.node(Here(node=""), has_node_ports=False)
            if before == self._node_wanted:
                raise
            self._nft.load(ruleset(before))
            self._node_loaded, self.node_error = before, error
        else:
            self._node_loaded, self.node_error = self._node_wanted, None

    def _handles(self, old: State, new: State) -> Mapping[str, tuple[int, ...]]:
        handles: dict[str, tuple[int, ...]] = {}
        for name in states.chains_to_edit(old, new):
            handles[name] = tuple(handle for handle, _ in self._nft.rules(name))
            if len(handles[name]) != len(old.chains[name].rules):
                raise TableChanged(name)
        return handles


def _timeouts(drafts: Iterable[Draft]) -> frozenset[int]:
    return frozenset().union(*(draft.new.timeouts for draft in drafts))


def _has_node_ports(drafts: Iterable[Draft]) -> bool:
    return any(draft.new.has_node_ports for draft in drafts)
