"""Who had an address when, told from the two things that are written down: it was given, it was released.

Times are the wall clock's, which may jump; the order is that of writing, which does not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ipam.address import Address
from ipam.lease import Attachment


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the history."""

    at: datetime
    is_given: bool  # or released
    address: Address
    attachment: Attachment
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """An attachment had an address from `since` to `until`; None stands for longer ago than told, and for still."""

    address: Address
    attachment: Attachment
    owner: str
    since: datetime | None
    until: datetime | None

    def covers(self, moment: datetime) -> bool:
        return (self.since is None or self.since <= moment) and (self.until is None or moment < self.until)


def tenures(events: Iterable[Event]) -> tuple[Tenure, ...]:
    """Pair what was given with its release, the oldest first. `events` stand in the order of writing."""
    told: list[Tenure] = []
    given: dict[tuple[Address, Attachment], Event] = {}
    for event in events:
        key = event.address, event.attachment
        begun = given.pop(key, None)
        if event.is_given:
            given[key] = event
        else:
            told.append(_tenure(event, since=begun.at if begun else None, until=event.at))
    return (*told, *(_tenure(event, since=event.at, until=None) for event in given.values()))


def _tenure(event: Event, *, since: datetime | None, until: datetime | None) -> Tenure:
    return Tenure(address=event.address, attachment=event.attachment, owner=event.owner, since=since, until=until)
