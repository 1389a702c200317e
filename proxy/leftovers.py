"""Drafts measured against a table that was read back, instead of against what was last written.

Each Service gets what it wants and the table already has as its old share; whatever nobody wants is a draft of its own,
to be removed. The union of all is the difference between the table and the truth.
"""

from collections.abc import Iterable, Sequence

from dataplane.nft.objects import Element
from proxy import state as states
from proxy.model import ServiceName
from proxy.planning import NOT_SERVED, Draft, Served
from proxy.state import ChainContent, State


def against(found: State, drafts: Sequence[Draft], leftovers: ServiceName) -> list[Draft]:
    """The drafts with their old shares as found; `leftovers` names the one of everything else, which comes first."""
    if found == states.union(draft.new.state for draft in drafts):
        # As after most restarts: then one State of each Service is enough to keep, and nobody need compare them again.
        return [_nothing(leftovers), *(_rebased(draft, draft.new.state) for draft in drafts)]
    elements, chains = {name: dict(held) for name, held in found.elements.items()}, dict(found.chains)
    rebased = [_rebased(draft, _same_or(draft.new.state, _take(elements, chains, draft.new.state))) for draft in drafts]
    rest = State({name: held for name, held in elements.items() if held}, chains)
    return [Draft(name=leftovers, old=Served(state=rest), new=NOT_SERVED), *rebased]


def _nothing(leftovers: ServiceName) -> Draft:
    return Draft(name=leftovers, old=NOT_SERVED, new=NOT_SERVED)


def _same_or(wanted: State, share: State) -> State:
    """The wanted one where both are the same."""
    return wanted if share == wanted else share


def _take(elements: dict[str, dict[bytes, Element]], chains: dict[str, ChainContent], wanted: State) -> State:
    if not elements and not chains:
        return states.empty()
    taken = {
        name: _take_some(held, keys)
        for name, keys in wanted.elements.items()
        if (held := elements.get(name)) is not None
    }
    return State(
        {name: found for name, found in taken.items() if found},
        {name: content for name in wanted.chains if (content := chains.pop(name, None)) is not None},
    )


def _take_some(held: dict[bytes, Element], keys: Iterable[bytes]) -> dict[bytes, Element]:
    return {key: element for key in keys if (element := held.pop(key, None)) is not None}


def _rebased(draft: Draft, share: State) -> Draft:
    old = draft.old
    if share is old.state or share == old.state:
        return draft
    return Draft(
        name=draft.name,
        old=Served(state=share, assignments=old.assignments, timeouts=old.timeouts),
        new=draft.new,
    )
