"""What an earlier run left in the kernel: read once, at start and after somebody else changed the table.

Nothing here decides what should stand there. Reading it back saves writing what is right already, and keeps the ids and
turns that connections, counters and `numgen` rules know. Whatever is found that makes no sense is not taken over.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from dataplane.errors import NotFound
from dataplane.nft import values
from dataplane.nft.expressions import NumgenIncrement
from dataplane.nft.interface import Nft
from dataplane.nft.objects import Chain, Element, InstalledRule
from dataplane.nft.values import Verdict
from proxy import layout
from proxy.identities import NOBODY, Assignment, Member
from proxy.model import Scope, ServicePort
from proxy.ruleset import NodeText, Ruleset
from proxy.state import ChainContent, State


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A table: what changes with Services as a state, and of the rest enough to tell whether it is whole."""

    state: State
    layout: str
    rule_counts: Mapping[str, int]
    node: str = ""

    def is_whole(self, ruleset: Ruleset) -> bool:
        """Whether the part that never changes is that of this ruleset."""
        return self.layout == ruleset.layout and _has(self.rule_counts, ruleset.rule_counts())

    def timeouts(self, ruleset: Ruleset) -> frozenset[int]:
        """The affinity timeouts whose chains are there and whole."""
        candidates = {seconds for name in self.rule_counts if (seconds := layout.affinity_seconds(name)) is not None}
        return frozenset(
            seconds for seconds in candidates if _has(self.rule_counts, ruleset.affinity_rule_counts(seconds))
        )

    def has_node(self, node: NodeText) -> bool:
        """Whether the chains of node.nft are these."""
        return self.node == node.comment and _has(self.rule_counts, node.rule_counts())

    @property
    def has_localhost(self) -> bool:
        """Whether there are, or were, node ports at localhost."""
        return not layout.LOCALHOST_CHAINS.isdisjoint(self.rule_counts)

    @property
    def affinity_chains(self) -> frozenset[str]:
        return frozenset(name for name in self.rule_counts if layout.is_affinity_chain(name))


def _has(found: Mapping[str, int], expected: Mapping[str, int]) -> bool:
    return all(found.get(name) == count for name, count in expected.items())


def read(nft: Nft, ruleset: Ruleset) -> Found | None:
    """Read the table; None if there is none."""
    if not nft.table_exists():
        return None
    chains, rules = nft.chains(), nft.all_rules()
    return Found(
        state=State(_elements(nft), _service_chains(chains, rules, ruleset)),
        layout=next((chain.comment for chain in chains if chain.name == layout.DISPATCH), ""),
        rule_counts={chain.name: len(rules.get(chain.name, ())) for chain in chains},
        node=next((rule.comment for _, rule in rules.get(layout.FROM_NETWORK, ()) if rule.comment), ""),
    )


def affinity(nft: Nft) -> tuple[Element, ...]:
    """What the table remembers of clients, as far as this layout remembers it too."""
    return tuple(_readable(nft, layout.AFFINITY))


def _elements(nft: Nft) -> dict[str, dict[bytes, Element]]:
    found = {set_name: {element.key: element for element in _readable(nft, set_name)} for set_name in layout.WRITTEN}
    return {set_name: elements for set_name, elements in found.items() if elements}


def _readable(nft: Nft, set_name: str) -> Iterator[Element]:
    """The elements of a set that have this layout's form; another version's table may have others, or no such set."""
    try:
        elements = nft.elements(set_name)
    except NotFound:
        return
    key_length, value_length = layout.form(set_name, nft.table.family)
    for element in elements:
        length = len(element.value) if isinstance(element.value, bytes) else None
        if len(element.key) == key_length and length == value_length:
            yield element


def _service_chains(
    chains: Iterable[Chain], rules: Mapping[str, tuple[InstalledRule, ...]], ruleset: Ruleset
) -> dict[str, ChainContent]:
    static = ruleset.rule_counts().keys() | layout.NODE_CHAINS
    return {
        chain.name: ChainContent(tuple(rule.expressions for _, rule in rules.get(chain.name, ())), chain.comment)
        for chain in chains
        if chain.name not in static and not layout.is_affinity_chain(chain.name)
    }


def adopted(state: State, port: ServicePort, scope: Scope = Scope.CLUSTER) -> Assignment:
    """The endpoints, ids and turns of a Service port as they stand in a state; nobody if they make no sense."""
    return _first(state, layout.leads(port, scope))


def taken_over(state: State, frontend: bytes) -> Assignment:
    """The same for a Service port that nothing but its cluster IP leads to."""
    return _first(state, ((layout.SINGLE_ENDPOINT, frontend), (layout.SERVICES, frontend)))


def _first(state: State, places: Iterable[tuple[str, bytes]]) -> Assignment:
    for set_name, key in places:
        if (entry := state.find(set_name, key)) is not None:
            return _led_to(state, entry)
    return NOBODY


def _led_to(state: State, entry: Element) -> Assignment:
    if not isinstance(entry.value, Verdict):
        return _assignment(state, [entry.value], None)
    content = state.chains.get(entry.value.chain)
    its_turn = turn(content) if content else None
    if its_turn is None:
        return NOBODY
    # One after the other: a rule of somebody else's may say billions.
    places = range(its_turn.offset, its_turn.offset + its_turn.modulus)
    return _assignment(state, standing_at(state, places), its_turn.offset)


def standing_at(state: State, places: range) -> Iterator[bytes | Verdict | None]:
    """The id at each of these positions, which may be the position itself; None if nothing is there."""
    ring = state.elements.get(layout.RING, {})
    by_id = places.start in layout.ENDPOINT_IDS
    for place in places:
        mark = values.mark(place)
        element = ring.get(mark)
        yield element.value if element else mark if by_id else None


def turn(content: ChainContent) -> NumgenIncrement | None:
    """How a chain takes turns."""
    expressions = (expression for rule in content.rules for expression in rule)
    return next((expression for expression in expressions if isinstance(expression, NumgenIncrement)), None)


def _assignment(state: State, marks: Iterable[bytes | Verdict | None], first: int | None) -> Assignment:
    """Those with these ids in these turns; nobody if one of them makes no sense."""
    endpoints = state.elements.get(layout.ENDPOINTS, {})
    members: list[Member] = []
    for mark in marks:
        target = endpoints[mark].value if type(mark) is bytes and mark in endpoints else None
        if type(mark) is not bytes or type(target) is not bytes:
            return NOBODY
        members.append(Member(layout.target(target), values.mark_number(mark)))
    targets, ids = {member.target for member in members}, {member.id for member in members}
    # An endpoint may stand there more than once, but always with one id.
    is_sound = len(targets) == len(ids) and (len(ids) == len(members) or len(set(members)) == len(ids))
    by_id = first is not None and first in layout.ENDPOINT_IDS
    return Assignment(tuple(members), first, by_id) if is_sound else NOBODY
