"""Rounds of work: Services that changed → what the table lacks → one transaction.

A round costs what changed, not what there is. One Service the kernel refuses does not hold up the others: the round is
halved until it stands alone, and it comes back later by itself. When somebody else changed the table, or nothing is
known of it yet, the whole of it is read and only the difference is written.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import msgspec
import structlog

from dataplane.errors import DataplaneError
from dataplane.nft.interface import LoadFailed, Nft, TransactionFailed
from kube.control import SyncFailed
from proxy import leftovers, restart
from proxy import state as states
from proxy.cluster_ips import ClusterIPs
from proxy.model import InvalidService, ServiceName
from proxy.planning import Planner
from proxy.restart import Found
from proxy.ruleset import Ruleset
from proxy.served import NOT_SERVED, Draft, Served
from proxy.state import State
from proxy.writer import Writer

log = structlog.get_logger(__name__)

# Keys beside the Services': no namespace is empty.
RESYNC: Final = ServiceName("", "resync")
SWEEP: Final = ServiceName("", "sweep")
NODE: Final = ServiceName("", "node")
NO_SERVICES: Final = frozenset({RESYNC, SWEEP, NODE})

# More Services than this refused in one round: the table is not what we think it is.
_REFUSED_MAX: Final = 20

# So many Services are one transaction when a table is filled: it bounds memory, and each transaction costs the kernel
# a walk over all chains.
_PORTION: Final = 4000

_API_SERVER: Final = ServiceName("default", "kubernetes")

Failures = dict[ServiceName, Exception]


class Syncer:
    """Keeps one table equal to what the API says.

    `later` is asked to bring a key back after so many seconds.
    """

    def __init__(
        self,
        nft: Nft,
        ruleset: Ruleset,
        planner: Planner,
        *,
        later: Callable[[ServiceName, float], None],
    ) -> None:
        self._nft = nft
        self._ruleset = ruleset
        self._planner = planner
        self._later = later
        self._writer = Writer(nft, ruleset)
        self._cluster_ips = ClusterIPs()
        self._served: dict[ServiceName, Served] = {}
        self.invalid: dict[ServiceName, InvalidService] = {}
        """What is wrong with the Services that cannot be read."""
        self._timeout_uses: Counter[int] = Counter()
        self._unsettled: dict[ServiceName, Draft] = {}
        self._is_first_round = True
        self._is_node_changed = False
        self._is_table_known = False
        self._ahead: tuple[int, Found | None] | None = None
        self._operations = 0

    def look_ahead(self) -> None:
        """Read the table before the first round, while the API is still being asked."""
        with contextlib.suppress(DataplaneError):  # the round will meet it too
            self._ahead = self._nft.generation(), restart.read(self._nft, self._ruleset)

    def sync(self, keys: frozenset[ServiceName]) -> None:
        """Do one round. Raises SyncFailed for the Services that could not be written."""
        started, self._operations = time.monotonic(), 0
        self._is_table_known &= RESYNC not in keys
        try:
            failures = self._round(keys)
        except Exception:
            self._is_table_known = False
            raise
        finally:
            for draft in tuple(self._unsettled.values()):
                self._reject(draft)
        if self._operations:
            seconds = round(time.monotonic() - started, 4)
            log.info("synced", services=len(keys - NO_SERVICES), operations=self._operations, seconds=seconds)
        if failures:
            raise SyncFailed(failures)

    def served(self) -> Mapping[ServiceName, Served]:
        """What stands in the table, as far as rounds have ended; any thread may ask."""
        return self._served.copy()

    @property
    def chains_not_deleted(self) -> int:
        """How often the kernel refused to delete a chain that is no longer used, so far."""
        return self._writer.stale.failures

    def _round(self, keys: frozenset[ServiceName]) -> Failures:
        names = keys - NO_SERVICES
        self._is_node_changed |= self._planner.look()
        if self._is_node_changed:
            names = names.union(self._served)
        self._writer.aim(self._planner.here)
        failures = self._update(names) if self._is_table_known else self._resync(names)
        self._is_node_changed = False
        if SWEEP in keys:
            self._writer.stale.sweep()
        self._writer.retire_affinity(self._timeout_uses)
        if (seconds := self._writer.stale.wait) is not None:
            self._later(SWEEP, seconds)
        return failures | ({NODE: error} if (error := self._writer.node_error) else {})

    def _update(self, names: Iterable[ServiceName]) -> Failures:
        drafts, failures = self._drafts(self._in_turn(names), found=None)
        return failures | self._write(drafts, allowed=_REFUSED_MAX)

    def _resync(self, names: frozenset[ServiceName]) -> Failures:
        found = self._found()
        if found is not None:
            self._planner.skip(found.state)
        if self._is_first_round:
            names = names.union(self._planner.names())
        failures = self._fill(names) if found is None else self._compare(found, names)
        self._is_table_known = RESYNC not in failures
        if self._is_table_known:
            self._writer.remove_stand_in()
        self._is_first_round = False
        return failures

    def _found(self) -> Found | None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == self._nft.generation():
            return ahead[1]
        return restart.read(self._nft, self._ruleset)

    def _fill(self, names: frozenset[ServiceName]) -> Failures:
        """Make the table anew, in transactions of limited size; what the cluster itself rests on comes first.

        While the kernel has one portion, the next is drafted and made. Both touch only what is theirs: drafts have names, numbers
        and claims of their own, and what the kernel refuses goes back to where it came from.
        """
        self._writer.begin()
        failures: Failures = {}
        with ThreadPoolExecutor(1, thread_name_prefix="fill") as kernel:
            written: Future[Failures] | None = None
            for some in _portions(self._in_turn(names)):
                drafts, unclaimed = self._drafts(some, found=None)
                made = [msgspec.structs.replace(draft, new=draft.new.made()) for draft in drafts]
                failures |= unclaimed | (written.result() if written else {})
                written = kernel.submit(self._write_against, states.empty(), made)
            failures |= written.result() if written else {}
        for some in _portions(sorted(self._served.keys() - names)):
            failures |= self._write_against(states.empty(), self._as_they_are(some))
        return failures

    def _compare(self, found: Found, names: frozenset[ServiceName]) -> Failures:
        drafts, failures = self._drafts(self._in_turn(names), found=found.state)
        drafts += self._as_they_are(self._served.keys() - names)
        if not found.is_whole(self._ruleset):
            return failures | self._take_over(found, drafts)
        self._writer.adopt(found)
        return failures | self._write_against(found.state, drafts)

    def _as_they_are(self, names: Iterable[ServiceName]) -> list[Draft]:
        """Drafts of what the API said before: only the table is in question."""
        drafts = [Draft(name=name, old=self._served[name], new=self._served[name]) for name in names]
        self._unsettled |= {draft.name: draft for draft in drafts}
        return drafts

    def _begin(self, drafts: Sequence[Draft]) -> Failures:
        self._writer.begin()
        return self._write_against(states.empty(), drafts)

    def _take_over(self, found: Found, drafts: Sequence[Draft]) -> Failures:
        log.warning(
            "replacing a table that is not as this version makes it", found=found.layout, ours=self._ruleset.layout
        )
        try:
            self._operations += self._writer.replace(found, drafts, restart.affinity(self._nft))
        except LoadFailed as error:
            log.warning("the table cannot be replaced at once: Services are missing for a moment", error=str(error))
            return self._begin(drafts)
        for draft in drafts:
            self._accept(draft)
        return {}

    def _write_against(self, found: State, drafts: Sequence[Draft]) -> Failures:
        rebased = leftovers.against(found, drafts, RESYNC)
        self._unsettled |= {draft.name: draft for draft in rebased}
        return self._write(rebased, allowed=len(rebased))

    def _in_turn(self, names: Iterable[ServiceName]) -> list[ServiceName]:
        """Those that may have something in this table, in the order in which they may claim."""
        return sorted(filter(self._is_concerned, names), key=self._planner.precedence)

    def _is_concerned(self, name: ServiceName) -> bool:
        return name in self._served or name in self.invalid or self._planner.may_serve(name)

    def _drafts(self, names: Sequence[ServiceName], *, found: State | None) -> tuple[list[Draft], Failures]:
        """Draft Services, given in the order in which they may claim."""
        drafts = [draft for name in names if (draft := self._draft(name, found))]
        failures: Failures = {}
        self._cluster_ips.leave(drafts)
        for index, draft in enumerate(drafts):
            if error := self._cluster_ips.claim(draft):
                failures[draft.name] = error
                drafts[index] = self._withdrawn(draft)
        # What goes makes room for what comes, should the round be halved between them.
        return sorted(drafts, key=lambda draft: not draft.new.is_empty), failures

    def _draft(self, name: ServiceName, found: State | None) -> Draft | None:
        """None for what is not served and was not."""
        old = self._served.get(name, NOT_SERVED)
        self.invalid.pop(name, None)
        try:
            draft = self._planner.draft(name, old, found=found)
        except InvalidService as error:
            log.warning("a Service that cannot be read stays as it was", error=str(error))
            self.invalid[name] = error
            draft = Draft(name=name, old=old, new=old)
        if draft is None or draft.new is old is NOT_SERVED:
            return None
        self._unsettled[name] = draft
        return draft

    def _withdrawn(self, draft: Draft) -> Draft:
        self._planner.settle(draft, accepted=False)
        withdrawn = Draft(name=draft.name, old=draft.old, new=NOT_SERVED)
        self._unsettled[draft.name] = withdrawn
        return withdrawn

    def _write(self, drafts: Sequence[Draft], *, allowed: int) -> Failures:
        """Write drafts, all but those the kernel refuses; give up when these are more than allowed."""
        try:
            self._operations += self._writer.write(drafts)
        except TransactionFailed as error:
            return self._isolate(drafts, error, allowed)
        for draft in drafts:
            self._accept(draft)
        return {}

    def _isolate(self, drafts: Sequence[Draft], error: TransactionFailed, allowed: int) -> Failures:
        if allowed < 1:
            raise error
        if len(drafts) == 1:
            self._reject(drafts[0])
            return {drafts[0].name: error}
        middle = len(drafts) // 2
        failures = self._write(drafts[:middle], allowed=allowed)
        return failures | self._write(drafts[middle:], allowed=allowed - len(failures))

    def _accept(self, draft: Draft) -> None:
        del self._unsettled[draft.name]
        self._planner.settle(draft, accepted=True)
        if draft.old.timeouts != draft.new.timeouts:
            self._timeout_uses.subtract(draft.old.timeouts)
            self._timeout_uses.update(draft.new.timeouts)
            self._timeout_uses += Counter()  # drops what is no longer used
        self._remember(draft.name, draft.new)

    def _reject(self, draft: Draft) -> None:
        del self._unsettled[draft.name]
        self._planner.settle(draft, accepted=False)
        self._cluster_ips.restore(draft)
        self._remember(draft.name, draft.old)

    def _remember(self, name: ServiceName, served: Served) -> None:
        if (served.assignments or not served.is_empty) and name not in NO_SERVICES:
            self._served[name] = served.remembered()
        else:
            self._served.pop(name, None)


def _portions(names: Iterable[ServiceName]) -> Iterator[list[ServiceName]]:
    """Services as many at a time as one transaction takes; first those that others need to find anything."""
    by_need: dict[bool, list[ServiceName]] = {True: [], False: []}
    for name in names:
        by_need[_is_needed_by_all(name)].append(name)
    for some in by_need.values():
        for start in range(0, len(some), _PORTION):
            yield some[start : start + _PORTION]


def _is_needed_by_all(name: ServiceName) -> bool:
    """The API server's own Service, DNS and what else the cluster is run with."""
    return name.namespace == "kube-system" or name == _API_SERVER
