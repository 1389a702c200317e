"""Drafts measured against a table that was read back, instead of against what was last written.

Each Service gets what it wants and the table already has as its old share; whatever nobody wants is a draft of its own,
to be removed. The union of all is the difference between the table and the truth.
"""

from collections.abc import Sequence

from proxy import state as states
from proxy.model import ServiceName
from proxy.served import NOT_SERVED, AnyServed, Draft
from proxy.state import State


def against(found: State, drafts: Sequence[Draft], leftovers: ServiceName) -> list[Draft]:
    """The drafts with their old shares as found; `leftovers` names the one of everything else, which comes first."""
    rebased: list[Draft] = []
    there = found.size
    claimed = 0
    for draft in drafts:
        if draft.stands or (there and draft.new.stands_in(found)):
            rebased.append(_standing(draft))
            claimed += draft.new.size
        else:
            share = found.share(draft.new.state) if there else states.empty()
            rebased.append(_rebased(draft, share))
            claimed += share.size
    # No two shares have anything in common: as many as there are is all there is.
    rest = found.without(draft.new.state for draft in drafts) if claimed != there else states.empty()
    return [Draft(name=leftovers, old=AnyServed(state=rest), new=NOT_SERVED), *rebased]


def _standing(draft: Draft) -> Draft:
    """One value for both sides, where what was taken for them is the same too: nobody compares them again."""
    old, new = draft.old, draft.new
    if old is new or (old.assignments == new.assignments and old.timeouts == new.timeouts):
        return Draft(name=draft.name, old=new, new=new)
    return _rebased(draft, new.state)


def _rebased(draft: Draft, share: State) -> Draft:
    old = draft.old
    return Draft(
        name=draft.name,
        old=AnyServed(state=share, assignments=old.assignments, timeouts=old.timeouts),
        new=draft.new,
    )
