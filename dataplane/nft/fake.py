"""One nft table in memory, as the kernel would hold it: for tests, and verified against the kernel by a contract suite.

It keeps the kernel's atomicity: operations work on a copy that replaces the state only if none was refused. It does not
read nft text: what `load` brings into being is declared to the constructor.
"""

import errno
import queue
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dataplane import errors
from dataplane.nft import memory
from dataplane.nft.interface import Change, GenerationChanged, TableMissing, TransactionFailed
from dataplane.nft.memory import SetShape, State
from dataplane.nft.objects import Chain, Element, Expiring, InstalledRule, Operation, Passed, Table

__all__ = ["FakeMonitor", "FakeNft", "SetShape"]


class FakeNft:
    """Implements `interface.Nft`. `loaded` and `committed` remember what was asked for, the latter only if it succeeded."""

    def __init__(
        self,
        table: Table,
        *,
        sets: Iterable[SetShape] = (),
        chains: Iterable[str] = (),
        base_chains: Iterable[str] = (),
    ) -> None:
        self.table = table
        self.loaded: list[str] = []
        self.committed: list[tuple[Operation, ...]] = []
        self.passed: dict[bytes, Passed] = {}
        self._shapes = {shape.name: shape for shape in sets}
        self._base_chains = frozenset(base_chains)
        self._skeleton_chains = (*chains, *self._base_chains)
        self._state: State | None = None
        self._generation = 1

    def load(self, ruleset: str) -> None:
        """Bring the declared sets and chains into being; what exists already stays, as with nft's `table { … }`."""
        self.loaded.append(ruleset)
        state = self._state or State(shapes=self._shapes, base_chains=self._base_chains)
        for name in self._skeleton_chains:
            state.chains.setdefault(name, Chain(name))
        for name in self._shapes:
            state.elements.setdefault(name, {})
        self._state = state
        self._generation += 1

    def commit(self, operations: Sequence[Operation], *, generation: int | None = None) -> None:
        if generation not in {None, self._generation}:
            raise GenerationChanged(f"commit to table {self.table}", errno.ERESTART)
        if self._state is None:
            raise TableMissing(f"commit to table {self.table}", errno.ENOENT)
        state = self._state.copy()
        failures = tuple(memory.apply(state, operations))
        if failures:
            raise TransactionFailed(f"commit to table {self.table}", failures[0].code, failures=failures)
        if state != self._state:  # what turns out to change nothing is no transaction to the kernel
            self._generation += 1
        self._state = state
        self.committed.append(tuple(operations))

    def settle(self) -> None:
        """No packets pass here."""

    def generation(self) -> int:
        return self._generation

    def table_exists(self) -> bool:
        return self._state is not None

    def chains(self) -> tuple[Chain, ...]:
        return tuple(self._state.chains.values()) if self._state else ()

    def rules(self, chain: str) -> tuple[InstalledRule, ...]:
        return self.all_rules().get(chain, ())

    def all_rules(self) -> Mapping[str, tuple[InstalledRule, ...]]:
        return {name: rules for name, rules in self._state.rules.items() if rules} if self._state else {}

    def elements(self, set_name: str) -> tuple[Element, ...]:
        if self._state is None or set_name not in self._state.elements:
            raise errors.NotFound(f"list elements of set {set_name} in table {self.table}", errno.ENOENT)
        return tuple(self._state.elements[set_name].values())

    def element(self, set_name: str, key: bytes) -> Element | None:
        return self._state.elements.get(set_name, {}).get(key) if self._state else None

    def counters(self, set_name: str) -> Mapping[bytes, Passed]:
        """Every element counts; what `passed` says of its key, else nothing."""
        return {element.key: self.passed.get(element.key, Passed(0, 0)) for element in self.elements(set_name)}

    def expiring(self, set_name: str) -> tuple[Expiring, ...]:
        """No time passes here."""
        elements = (element for element in self.elements(set_name) if element.timeout is not None)
        return tuple(Expiring(element, element.timeout or 0) for element in elements)

    def list_ruleset(self) -> str:
        """The table in the manner of nft, sorted, so that two listings can be compared."""
        if self._state is None:
            raise errors.NotFound(f"list table {self.table}", errno.ENOENT)
        return "\n".join([f"table {self.table} {{", *memory.listing(self._state), "}", ""])

    def delete_table(self) -> None:
        if self._state is not None:
            self._state = None
            self._generation += 1

    def monitor(self) -> "FakeMonitor":
        return FakeMonitor()


class FakeMonitor:
    """Implements `interface.Monitor`: yields what a test reports."""

    def __init__(self) -> None:
        self._reported: queue.SimpleQueue[Change | None] = queue.SimpleQueue()

    def report(self, change: Change) -> None:
        self._reported.put(change)

    def changes(self) -> Iterator[Change]:
        while (change := self._reported.get()) is not None:
            yield change

    def stop(self) -> None:
        self._reported.put(None)

    def close(self) -> None:
        self.stop()
