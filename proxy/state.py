"""What stands in the table, or should: elements by set and key, chains by name, and the difference between two of them.

A state is a Service's share of the table or the whole of it; both are compared in the same way. The difference is the
order in which one transaction may go from one to the other without the kernel missing anything it refers to: elements
go first, then chains and rules change, then elements come.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeVar

import msgspec

from dataplane.nft.expressions import Expression, SetVerdict
from dataplane.nft.objects import (
    AddChain,
    AddElements,
    AddRule,
    Chain,
    DeleteElements,
    Element,
    FlushChain,
    Operation,
    ReplaceRule,
    Rule,
)
from proxy import layout

K = TypeVar("K")
V = TypeVar("V")

Rules = tuple[tuple[Expression, ...], ...]


class ChainContent(msgspec.Struct, frozen=True, gc=False):
    rules: Rules
    comment: str = ""


class State(msgspec.Struct):
    """Filled once by whoever makes it, then only read. A set without elements is not there at all."""

    elements: dict[str, dict[bytes, Element]]
    """By set, then by key."""
    chains: dict[str, ChainContent]

    def add(self, set_name: str, *elements: Element) -> None:
        if elements:
            self.elements.setdefault(set_name, {}).update([(element.key, element) for element in elements])

    def find(self, set_name: str, key: bytes) -> Element | None:
        return self.elements.get(set_name, _NOTHING).get(key)

    @property
    def has_node_ports(self) -> bool:
        return layout.SERVED_NODE_PORTS in self.elements

    @property
    def size(self) -> int:
        """How many elements and chains there are."""
        return sum(map(len, self.elements.values())) + len(self.chains)

    def share(self, wanted: "State") -> "State":
        """What stands here in the places of another."""
        shares = {
            name: _common(held, wanted.elements[name])
            for name, held in self.elements.items()
            if name in wanted.elements
        }
        return State({name: held for name, held in shares.items() if held}, _common(self.chains, wanted.chains))

    def without(self, others: Iterable["State"]) -> "State":
        """What stands here in places that none of the others has."""
        elements, chains = {name: dict(held) for name, held in self.elements.items()}, dict(self.chains)
        for other in others:
            for name, wanted in other.elements.items():
                _remove(elements.get(name, {}), wanted)
            _remove(chains, other.chains)
        return State({name: held for name, held in elements.items() if held}, chains)

    def entries(self) -> Iterator[tuple[str, Element]]:
        """Every element with the name of its set."""
        return ((set_name, element) for set_name, elements in self.elements.items() for element in elements.values())


_NOTHING: Final[Mapping[bytes, Element]] = {}


def _common(held: Mapping[K, V], keys: Iterable[K]) -> dict[K, V]:
    return {key: held[key] for key in keys if key in held}


def _remove(held: dict[K, V], keys: Iterable[K]) -> None:
    for key in keys:
        held.pop(key, None)


def empty() -> State:
    return State({}, {})


def union(states: Iterable[State]) -> State:
    """All of them together; no two may claim the same key."""
    whole = empty()
    for state in states:
        for set_name, elements in state.elements.items():
            whole.elements.setdefault(set_name, {}).update(elements)
        whole.chains |= state.chains
    return whole


def diff(old: State, new: State, handles: Mapping[str, tuple[int, ...]]) -> tuple[Operation, ...]:
    """The operations from one state to the other; none if they are the same.

    `handles` has the handles of the rules of `chains_to_edit`. A chain that goes is only emptied: see `sync` for its end.
    """
    return (
        *(DeleteElements(set_name, elements) for set_name, elements in _gone(old, new)),
        *(FlushChain(name) for name in old.chains.keys() - new.chains.keys()),
        *_chain_operations(old, new, handles),
        *(AddElements(set_name, elements) for set_name, elements in _gone(new, old)),
    )


class Steps(NamedTuple):
    """A difference in the order in which packets under way may meet it; each step waits until they have passed."""

    preparation: tuple[Operation, ...]
    """New chains with their rules, which nothing leads to yet."""
    change: tuple[Operation, ...]
    clearance: tuple[Operation, ...]
    """Deletions of what old rules still look up."""


def in_steps(operations: Iterable[Operation], new: State) -> Steps:
    """Split a difference for packets that follow the rules they began with and look up in maps as they are now.

    A map's new element leads such a packet into a chain whose rules, if they came with the element, it cannot see. And
    what old rules lead to, if `new` does not have it under any value, must outlive them.
    """
    steps: tuple[list[Operation], list[Operation], list[Operation]] = ([], [], [])
    added: set[str] = set()
    for operation in operations:
        if isinstance(operation, AddChain):
            added.add(operation.chain.name)
            steps[0].append(operation)
        elif isinstance(operation, AddRule) and operation.rule.chain in added:
            steps[0].append(operation)
        elif isinstance(operation, DeleteElements) and operation.set_name in layout.LOOKED_UP_LATE:
            now, later = _parted(operation, new)
            steps[1].extend(now)
            steps[2].extend(later)
        else:
            steps[1].append(operation)
    return Steps(*map(tuple, steps))


def _parted(operation: DeleteElements, new: State) -> tuple[list[Operation], list[Operation]]:
    name = operation.set_name
    wanted = new.elements.get(name, _NOTHING)
    replaced = tuple(element for element in operation.elements if element.key in wanted)
    gone = tuple(element for element in operation.elements if element.key not in wanted)
    return [DeleteElements(name, replaced)] if replaced else [], [DeleteElements(name, gone)] if gone else []


def chains_to_edit(old: State, new: State) -> tuple[str, ...]:
    """The chains of which `diff` replaces single rules."""
    return tuple(
        name
        for name, content in new.chains.items()
        if (before := old.chains.get(name)) and before.rules != content.rules and _is_editable(before, content)
    )


def _gone(old: State, new: State) -> Iterator[tuple[str, tuple[Element, ...]]]:
    """What `new` has not or has with another value, set by set."""
    for set_name, elements in old.elements.items():
        kept = new.elements.get(set_name)
        if kept is None:
            yield set_name, tuple(elements.values())
        elif gone := tuple([element for key, element in elements.items() if not _is_same(kept.get(key), element)]):
            yield set_name, gone


def _is_same(one: Element | None, other: Element) -> bool:
    return one is other or one == other


def _chain_operations(old: State, new: State, handles: Mapping[str, tuple[int, ...]]) -> Iterator[Operation]:
    for name, content in new.chains.items():
        before = old.chains.get(name)
        if before is None:
            yield AddChain(Chain(name, content.comment))
            yield from _append_all(name, content)
        elif before.rules != content.rules:
            yield from _change(name, before, content, handles)


def _append_all(name: str, content: ChainContent) -> Iterator[Operation]:
    return (AddRule(Rule(name, expressions)) for expressions in content.rules)


def _change(
    name: str, old: ChainContent, new: ChainContent, handles: Mapping[str, tuple[int, ...]]
) -> Iterator[Operation]:
    if not _is_editable(old, new):
        yield FlushChain(name)
        yield from _append_all(name, new)
        return
    for before, after, handle in zip(old.rules, new.rules, handles[name], strict=True):
        if before != after:
            yield ReplaceRule(Rule(name, after), handle)


def _is_editable(old: ChainContent, new: ChainContent) -> bool:
    """Whether only rules without a jump differ: adding a jump makes the kernel check the whole table again."""
    if len(old.rules) != len(new.rules):
        return False
    return not any(
        isinstance(expression, SetVerdict)
        for before, after in zip(old.rules, new.rules, strict=True)
        if before != after
        for expression in after
    )
