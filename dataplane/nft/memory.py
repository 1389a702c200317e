"""A table's state in memory and what each operation does to it: the part of the fake that must agree with the kernel.

Checks come in the kernel's order and with its error numbers (net/netfilter/nf_tables_api.c), because a caller that
bisects or retries acts on them. Not checked is what podwire's own rules never do: loops of jumps, and types of registers.
"""

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dataplane.nft import expressions
from dataplane.nft.interface import Failure
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
)
from dataplane.nft.values import Verdict


class SetShape(msgspec.Struct, frozen=True):
    """A set or map of the skeleton. Lengths are in bytes, each field of a concatenation padded to four."""

    name: str
    key_length: int
    value_length: int | None = None
    verdicts: bool = False
    timeouts: bool = False


@dataclass(slots=True, kw_only=True)
class State:
    shapes: Mapping[str, SetShape]
    base_chains: frozenset[str]
    chains: dict[str, Chain] = field(default_factory=dict)
    rules: dict[str, tuple[InstalledRule, ...]] = field(default_factory=dict)
    elements: dict[str, dict[bytes, Element]] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)  # chain → jumps and gotos to it
    last_handle: int = 0

    def copy(self) -> "State":
        return State(
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


def apply(state: State, operations: Sequence[Operation]) -> Iterator[Failure]:
    """Apply all operations and yield the refused ones: like the kernel, which goes on so that its caller learns of all."""
    for index, operation in enumerate(operations):
        try:
            _APPLY[type(operation)](state, operation)
        except _Refused as refused:
            yield Failure(index, refused.code, refused.element)


def _add_chain(state: State, operation: AddChain) -> None:
    state.chains.setdefault(operation.chain.name, operation.chain)


def _delete_chain(state: State, operation: DeleteChain) -> None:
    name = operation.name
    _require(name in state.chains, errno.ENOENT)
    _set_rules(state, name, ())
    _require(not state.uses[name], errno.EBUSY)
    del state.chains[name]


def _flush_chain(state: State, operation: FlushChain) -> None:
    _require(operation.name in state.chains, errno.ENOENT)
    _set_rules(state, operation.name, ())


def _add_rule(state: State, operation: AddRule) -> None:
    rule = operation.rule
    _check_rule(state, rule)
    installed = InstalledRule(state.next_handle(), rule)
    _set_rules(state, rule.chain, (*state.rules.get(rule.chain, ()), installed))


def _replace_rule(state: State, operation: ReplaceRule) -> None:
    rule = operation.rule
    _require(rule.chain in state.chains, errno.ENOENT)
    _require_handle(state, rule.chain, operation.handle)
    _check_rule(state, rule)
    new = InstalledRule(state.next_handle(), rule)
    rules = state.rules[rule.chain]
    _set_rules(state, rule.chain, tuple(new if old.handle == operation.handle else old for old in rules))


def _delete_rule(state: State, operation: DeleteRule) -> None:
    _require(operation.chain in state.chains, errno.ENOENT)
    _require_handle(state, operation.chain, operation.handle)
    rules = state.rules[operation.chain]
    _set_rules(state, operation.chain, tuple(rule for rule in rules if rule.handle != operation.handle))


def _require_handle(state: State, chain: str, handle: int) -> None:
    _require(any(rule.handle == handle for rule in state.rules.get(chain, ())), errno.ENOENT)


def _check_rule(state: State, rule: Rule) -> None:
    _require(rule.chain in state.chains, errno.ENOENT)
    for expression in rule.expressions:
        if isinstance(expression, expressions.Lookup):
            _require(expression.map_name in state.shapes, errno.ENOENT)
        elif isinstance(expression, expressions.SetVerdict):
            _check_verdict(state, expression.verdict)


def _check_verdict(state: State, verdict: Verdict) -> None:
    if verdict.chain:
        _require(verdict.chain in state.chains, errno.ENOENT)
        _require(verdict.chain not in state.base_chains, errno.EOPNOTSUPP)


def _set_rules(state: State, chain: str, rules: tuple[InstalledRule, ...]) -> None:
    state.uses.subtract(_targets(state.rules.get(chain, ())))
    state.uses.update(_targets(rules))
    state.rules[chain] = rules


def _targets(rules: Iterable[InstalledRule]) -> Iterator[str]:
    for _, rule in rules:
        for expression in rule.expressions:
            if isinstance(expression, expressions.SetVerdict) and expression.verdict.chain:
                yield expression.verdict.chain


def _add_elements(state: State, operation: AddElements) -> None:
    shape, members = _set_of(state, operation.set_name)
    for position, element in enumerate(operation.elements):
        code = _shape_error(shape, element) or _value_error(state, members, element)
        if code:
            raise _Refused(code, position)
        if element.key not in members:
            members[element.key] = element
            state.uses.update(_target(element))


def _delete_elements(state: State, operation: DeleteElements) -> None:
    shape, members = _set_of(state, operation.set_name)
    for position, element in enumerate(operation.elements):
        if len(element.key) != shape.key_length:
            raise _Refused(errno.EINVAL, position)
        if element.key not in members:
            raise _Refused(errno.ENOENT, position)
        state.uses.subtract(_target(members.pop(element.key)))


def _set_of(state: State, name: str) -> tuple[SetShape, dict[bytes, Element]]:
    _require(name in state.shapes, errno.ENOENT)
    return state.shapes[name], state.elements[name]


def _shape_error(shape: SetShape, element: Element) -> int:
    if len(element.key) != shape.key_length or (element.timeout is not None and not shape.timeouts):
        return errno.EINVAL
    if isinstance(element.value, Verdict):
        return 0 if shape.verdicts else errno.EINVAL
    length = None if element.value is None else len(element.value)
    return errno.EINVAL if shape.verdicts or length != shape.value_length else 0


def _value_error(state: State, members: Mapping[bytes, Element], element: Element) -> int:
    if isinstance(element.value, Verdict):
        try:
            _check_verdict(state, element.value)
        except _Refused as refused:
            return refused.code
    existing = members.get(element.key, element)
    return errno.EEXIST if existing.value != element.value else 0


def _target(element: Element) -> tuple[str, ...]:
    return (element.value.chain,) if isinstance(element.value, Verdict) and element.value.chain else ()


_APPLY: dict[type[Operation], Callable[[State, Any], None]] = {
    AddChain: _add_chain,
    DeleteChain: _delete_chain,
    FlushChain: _flush_chain,
    AddRule: _add_rule,
    ReplaceRule: _replace_rule,
    DeleteRule: _delete_rule,
    AddElements: _add_elements,
    DeleteElements: _delete_elements,
}


def listing(state: State) -> Iterator[str]:
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
    limit = f" limit rate over {element.limit.rate}" if element.limit else ""
    return f"{element.key.hex()}{timeout}{limit}{_comment_text(element.comment)}" + (
        "" if value is None else f" : {value}"
    )


def _comment_text(comment: str) -> str:
    return f' comment "{comment}"' if comment else ""
