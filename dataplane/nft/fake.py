"""One nft table in memory, as the kernel would hold it: for tests, and verified against the kernel by a contract suite.

It keeps the kernel's atomicity (operations work on a copy that replaces the state only if none was refused) and its
checks of references, sizes and duplicates, in the same order and with the same error numbers. It does not read nft text:
what `load` brings into being is declared to the constructor.
"""

import errno
import queue
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dataplane import errors
from dataplane.nft import expressions
from dataplane.nft.interface import Change, Failure, GenerationChanged, TableMissing, TransactionFailed
from dataplane.nft.objects import (
    AddChain,
    AddElements,
    AddRule,
    Chain,
    DeleteChain,
    DeleteElements,
    DeleteRule,
    Element,
    FlushChain,
    InstalledRule,
    Operation,
    ReplaceRule,
    Rule,
    Table,
)
from dataplane.nft.values import Verdict


class SetShape(msgspec.Struct, frozen=True):
    """A set or map of the skeleton. Lengths are in bytes, each field of a concatenation padded to four."""

    name: str
    key_length: int
    value_length: int | None = None
    verdicts: bool = False
    timeouts: bool = False


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
        self._shapes = {shape.name: shape for shape in sets}
        self._base_chains = frozenset(base_chains)
        self._skeleton_chains = (*chains, *self._base_chains)
        self._state: _State | None = None
        self._generation = 1

    def load(self, ruleset: str) -> None:
        """Bring the declared sets and chains into being; what exists already stays, as with nft's `table { … }`."""
        self.loaded.append(ruleset)
        state = self._state or _State(shapes=self._shapes, base_chains=self._base_chains)
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
        failures = tuple(_failures(state, operations))
        if failures:
            raise TransactionFailed(f"commit to table {self.table}", failures[0].code, failures=failures)
        self._state = state
        self._generation += 1
        self.committed.append(tuple(operations))

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

    def list_ruleset(self) -> str:
        """The table in the manner of nft, sorted, so that two listings can be compared."""
        if self._state is None:
            raise errors.NotFound(f"list table {self.table}", errno.ENOENT)
        return "\n".join([f"table {self.table} {{", *_listing(self._state), "}", ""])

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


@dataclass(slots=True, kw_only=True)
class _State:
    shapes: Mapping[str, SetShape]
    base_chains: frozenset[str]
    chains: dict[str, Chain] = field(default_factory=dict)
    rules: dict[str, tuple[InstalledRule, ...]] = field(default_factory=dict)
    elements: dict[str, dict[bytes, Element]] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)  # chain → jumps and gotos to it
    last_handle: int = 0

    def copy(self) -> "_State":
        return _State(
            shapes=self.shapes,
            base_chains=self.base_chains,
            chains=dict(self.chains),
            rules=dict(self.rules),
            elements={name: dict(elements) for name, elements in self.elements.items()},
            uses=Counter(self.uses),
            last_handle=self.last_handle,
        )

    def next_handle(self) -> int:
        self.last_handle += 1
        return self.last_handle


class _Refused(Exception):
    def __init__(self, code: int, element: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.element = element


def _require(condition: object, code: int) -> None:
    if not condition:
        raise _Refused(code)


def _failures(state: _State, operations: Sequence[Operation]) -> Iterator[Failure]:
    # Like the kernel, which goes on after a refused operation so that the sender learns of all of them.
    for index, operation in enumerate(operations):
        try:
            _APPLY[type(operation)](state, operation)
        except _Refused as refused:
            yield Failure(index, refused.code, refused.element)


def _add_chain(state: _State, operation: AddChain) -> None:
    state.chains.setdefault(operation.chain.name, operation.chain)


def _delete_chain(state: _State, operation: DeleteChain) -> None:
    name = operation.name
    _require(name in state.chains, errno.ENOENT)
    _set_rules(state, name, ())
    _require(not state.uses[name], errno.EBUSY)
    del state.chains[name]


def _flush_chain(state: _State, operation: FlushChain) -> None:
    _require(operation.name in state.chains, errno.ENOENT)
    _set_rules(state, operation.name, ())


def _add_rule(state: _State, operation: AddRule) -> None:
    rule = operation.rule
    _check_rule(state, rule)
    installed = InstalledRule(state.next_handle(), rule)
    _set_rules(state, rule.chain, (*state.rules.get(rule.chain, ()), installed))


def _replace_rule(state: _State, operation: ReplaceRule) -> None:
    rule = operation.rule
    _require(rule.chain in state.chains, errno.ENOENT)
    _require_handle(state, rule.chain, operation.handle)
    _check_rule(state, rule)
    new = InstalledRule(state.next_handle(), rule)
    rules = state.rules[rule.chain]
    _set_rules(state, rule.chain, tuple(new if old.handle == operation.handle else old for old in rules))


def _delete_rule(state: _State, operation: DeleteRule) -> None:
    _require(operation.chain in state.chains, errno.ENOENT)
    _require_handle(state, operation.chain, operation.handle)
    rules = state.rules[operation.chain]
    _set_rules(state, operation.chain, tuple(rule for rule in rules if rule.handle != operation.handle))


def _require_handle(state: _State, chain: str, handle: int) -> None:
    _require(any(rule.handle == handle for rule in state.rules.get(chain, ())), errno.ENOENT)


def _check_rule(state: _State, rule: Rule) -> None:
    _require(rule.chain in state.chains, errno.ENOENT)
    for expression in rule.expressions:
        if isinstance(expression, expressions.Lookup):
            _require(expression.map_name in state.shapes, errno.ENOENT)
        elif isinstance(expression, expressions.SetVerdict):
            _check_verdict(state, expression.verdict)


def _check_verdict(state: _State, verdict: Verdict) -> None:
    if verdict.chain:
        _require(verdict.chain in state.chains, errno.ENOENT)
        _require(verdict.chain not in state.base_chains, errno.EOPNOTSUPP)


def _set_rules(state: _State, chain: str, rules: tuple[InstalledRule, ...]) -> None:
    state.uses.subtract(_targets(state.rules.get(chain, ())))
    state.uses.update(_targets(rules))
    state.rules[chain] = rules


def _targets(rules: Iterable[InstalledRule]) -> Iterator[str]:
    for _, rule in rules:
        for expression in rule.expressions:
            if isinstance(expression, expressions.SetVerdict) and expression.verdict.chain:
                yield expression.verdict.chain


def _add_elements(state: _State, operation: AddElements) -> None:
    shape, members = _set_of(state, operation.set_name)
    for position, element in enumerate(operation.elements):
        code = _shape_error(shape, element) or _value_error(state, members, element)
        if code:
            raise _Refused(code, position)
        if element.key not in members:
            members[element.key] = element
            state.uses.update(_target(element))


def _delete_elements(state: _State, operation: DeleteElements) -> None:
    shape, members = _set_of(state, operation.set_name)
    for position, element in enumerate(operation.elements):
        if len(element.key) != shape.key_length:
            raise _Refused(errno.EINVAL, position)
        if element.key not in members:
            raise _Refused(errno.ENOENT, position)
        state.uses.subtract(_target(members.pop(element.key)))


def _set_of(state: _State, name: str) -> tuple[SetShape, dict[bytes, Element]]:
    _require(name in state.shapes, errno.ENOENT)
    return state.shapes[name], state.elements[name]


def _shape_error(shape: SetShape, element: Element) -> int:
    if len(element.key) != shape.key_length or (element.timeout is not None and not shape.timeouts):
        return errno.EINVAL
    if isinstance(element.value, Verdict):
        return 0 if shape.verdicts else errno.EINVAL
    length = None if element.value is None else len(element.value)
    return errno.EINVAL if shape.verdicts or length != shape.value_length else 0


def _value_error(state: _State, members: Mapping[bytes, Element], element: Element) -> int:
    if isinstance(element.value, Verdict):
        try:
            _check_verdict(state, element.value)
        except _Refused as refused:
            return refused.code
    existing = members.get(element.key, element)
    return errno.EEXIST if existing.value != element.value else 0


def _target(element: Element) -> tuple[str, ...]:
    return (element.value.chain,) if isinstance(element.value, Verdict) and element.value.chain else ()


_APPLY: dict[type[Operation], Callable[[_State, Any], None]] = {
    AddChain: _add_chain,
    DeleteChain: _delete_chain,
    FlushChain: _flush_chain,
    AddRule: _add_rule,
    ReplaceRule: _replace_rule,
    DeleteRule: _delete_rule,
    AddElements: _add_elements,
    DeleteElements: _delete_elements,
}


def _listing(state: _State) -> Iterator[str]:
    for set_name, members in sorted(state.elements.items()):
        yield f"\tset {set_name} {{"
        yield from sorted(f"\t\t{_element_text(element)}" for element in members.values())
        yield "\t}"
    for name, chain in sorted(state.chains.items()):
        yield f"\tchain {name} {{{_comment_text(chain.comment)}"
        for _, rule in state.rules.get(name, ()):
            yield f"\t\t{'; '.join(map(str, rule.expressions))}{_comment_text(rule.comment)}"
        yield "\t}"


def _element_text(element: Element) -> str:
    timeout = "" if element.timeout is None else f" timeout {element.timeout}ms"
    value = element.value.hex() if isinstance(element.value, bytes) else element.value
    return f"{element.key.hex()}{timeout}{_comment_text(element.comment)}" + ("" if value is None else f" : {value}")


def _comment_text(comment: str) -> str:
    return f' comment "{comment}"' if comment else ""
