"""Where a table that was read back differs from what it should be, named for people.

Ids and ring positions are a matter of history and never differ from what they should be; what they lead to does.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from dataplane.nft import values
from dataplane.nft.expressions import NumgenIncrement, SetVerdict
from dataplane.nft.objects import Element
from dataplane.nft.values import Verdict
from proxy import layout, restart, text
from proxy.restart import Found
from proxy.ruleset import NodeText, Ruleset
from proxy.state import ChainContent, State

ABSENT: Final = "nothing"
_BY_ID: Final = layout.LOOKED_UP_LATE - {layout.SINGLE_ENDPOINT}
_MARKED: Final = sorted(_BY_ID - {layout.ENDPOINTS, layout.RING, layout.HAIRPIN})


class Drift(NamedTuple):
    """One thing that is not as it should be."""

    place: str
    should: str
    found: str

    def __str__(self) -> str:
        return f"{self.place}: should be {self.should}, is {self.found}"


def of_services(should: State, found: State) -> tuple[Drift, ...]:
    """What differs of what changes with Services."""
    wanted, there = meanings(should), meanings(found)
    places = sorted(wanted.keys() | there.keys())
    return tuple(
        Drift(place, wanted.get(place, ABSENT), there.get(place, ABSENT))
        for place in places
        if wanted.get(place) != there.get(place)
    )


def of_table(found: Found, ruleset: Ruleset, node: NodeText) -> tuple[Drift, ...]:
    """What differs of the part that does not."""
    if found.layout != ruleset.layout:
        return (Drift("table", ruleset.layout, found.layout or "of another program"),)
    counts = {**ruleset.rule_counts(), **node.rule_counts()}
    drifts = [
        Drift(f"chain {name}", f"{count} rules", _rules(found.rule_counts.get(name)))
        for name, count in sorted(counts.items())
        if found.rule_counts.get(name) != count
    ]
    if found.node != node.comment:
        drifts.append(Drift("what is known of the node", node.comment, found.node or ABSENT))
    return tuple(drifts)


def _rules(count: int | None) -> str:
    return "absent" if count is None else f"{count} rules"


def meanings(state: State) -> dict[str, str]:
    """What stands at each place of a state, ids resolved."""
    leading = [(set_name, element) for set_name, element in state.entries() if set_name not in _BY_ID]
    found = {
        f"{set_name} {text.format_key(set_name, element)}": _meaning(state, element) for set_name, element in leading
    }
    used = {id_ for _, element in leading for id_ in _ids(state, element)}
    for id_, element in state.elements.get(layout.ENDPOINTS, {}).items():
        if id_ not in used:
            target = _format_target(element.value) if isinstance(element.value, bytes) else "no target"
            found[f"{layout.ENDPOINTS} of nobody, {target}"] = "there"
    return found


def _meaning(state: State, element: Element) -> str:
    if element.value is None:
        return "there"
    ids = Counter(_ids(state, element))
    targets = ", ".join(sorted(f"{_target(state, id_)}{'' if n == 1 else f' × {n}'}" for id_, n in ids.items()))
    if not isinstance(element.value, Verdict):
        return targets
    if element.value.kind != "goto":
        return str(element.value)
    content = state.chains.get(element.value.chain)
    return f"{targets or ABSENT}{_stickiness(content)}" if content else f"a chain that is not there: {element.value}"


def _ids(state: State, element: Element) -> Iterator[bytes]:
    """The endpoint ids an element that clients reach leads to, once for each turn."""
    if isinstance(element.value, Verdict):
        content = state.chains.get(element.value.chain)
        yield from _turns(state, content) if content else ()
    elif isinstance(element.value, bytes) and len(element.value) == len(values.mark(0)):
        yield element.value


def _turns(state: State, content: ChainContent) -> Iterator[bytes]:
    for expression in (expression for rule in content.rules for expression in rule):
        if isinstance(expression, NumgenIncrement):
            known = len(state.elements.get(layout.RING, ())) + len(state.elements.get(layout.ENDPOINTS, ()))
            last = min(expression.modulus, known + 1)
            places = range(expression.offset, expression.offset + last)
            yield from (found if isinstance(found, bytes) else b"" for found in restart.standing_at(state, places))


def _target(state: State, id_: bytes) -> str:
    endpoint = state.find(layout.ENDPOINTS, id_)
    if endpoint is None or not isinstance(endpoint.value, bytes):
        return "an endpoint that is not there"
    packed = endpoint.value[:-4]
    marks = [name for name in _MARKED if state.find(name, id_)]
    marks += [layout.HAIRPIN] * (state.find(layout.HAIRPIN, values.concat(id_, packed)) is not None)
    return " ".join([_format_target(endpoint.value), *(f"({mark})" for mark in marks)])


def _format_target(value: bytes) -> str:
    return str(layout.target(value))


def _stickiness(content: ChainContent) -> str:
    chains = [each.verdict.chain for rule in content.rules for each in rule if isinstance(each, SetVerdict)]
    seconds: Mapping[str, int | None] = {chain: layout.affinity_seconds(chain) for chain in chains}
    timeout = next((found for found in seconds.values() if found is not None), None)
    return "" if timeout is None else f", kept for {timeout} s"
