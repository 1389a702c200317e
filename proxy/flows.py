"""Connections to Services after their first packet: those that go where nobody answers any more are dealt with.

A UDP client may keep one socket for months, and conntrack keeps what the first packet got: an endpoint that is gone, or
no endpoint at all if the Service came later than its client. Such a flow is forgotten, and its next packet is sent
anew. A TCP connection is kept unless its Service says otherwise: then it is reset, at once or when it has had its time.

Nothing is remembered of what was removed. What is wrong shows in the connections themselves, in who answers them and in
their marks, so it holds after a restart too, for a Service without endpoints and for one that is deleted. All this
happens beside the sync, in a thread of its own, each time after the table was changed.
"""

import itertools
import time
from collections.abc import Callable, Collection, Iterable
from enum import Enum
from typing import Final, Protocol

import structlog

from dataplane.conntrack import ANYWHERE, TCP_CONNTRACK_SYN_SENT, Flow, Marks, Sent
from dataplane.errors import DataplaneError
from kube.control import ControlLoop
from proxy import answering, flow_marks
from proxy.answering import TCP, UDP, Expected, Front
from proxy.model import VERSIONS, Address, Family, InvalidService, ServiceName
from proxy.planning import Source
from proxy.resets import Resets

log = structlog.get_logger(__name__)

# A packet that met the table just before a change may enter conntrack just after the first look.
_SECOND_LOOK_SECONDS: Final = 1.0
_SINGLE_DUMPS_MAX: Final = 16  # from there on, one dump of all is cheaper


class Look(Enum):
    """What to look at beside single Services and fronts."""

    EVERYTHING = "everything"
    AGAIN = "again"
    ENDINGS = "endings"


Key = ServiceName | Front | Look


class Connections(Protocol):
    """What is asked of dataplane.conntrack."""

    def flows(
        self, version: int, protocol: int, *, sent: Sent = ANYWHERE, marks: Marks | None = None
    ) -> Iterable[Flow]: ...

    def delete(self, flow: Flow) -> bool: ...

    def set_mark(self, flow: Flow, mark: int) -> bool: ...


class Flows:
    """Looks after the connections of one address family. `changed` and `stop` may be called from any thread."""

    def __init__(
        self,
        source: Source,
        connections: Connections,
        resets: Resets,
        *,
        family: Family,
        addresses: Callable[[], Collection[Address]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`addresses` are the node's own, where node ports are."""
        self._source = source
        self._connections = connections
        self._family: Family = family
        self._version = VERSIONS[family]
        self._addresses = addresses
        self._clock = clock
        self._loop: ControlLoop[Key] = ControlLoop(f"flows-{family.lower()}")
        self._expected = Expected()
        self._resets = resets

    def changed(self, names: Iterable[ServiceName]) -> None:
        """The table follows what these Services are now."""
        for name in names:
            self._loop.mark(name)

    def everything_changed(self) -> None:
        """The table was read or made anew: whatever came meanwhile, nobody knows where it went."""
        self._loop.mark(Look.EVERYTHING)

    def run(self, sweep: Callable[[frozenset[Key]], None] | None = None) -> None:
        """Work until `stop`, by `sweep` or by what calls it."""
        self._loop.run(sweep or self.sweep)

    def run_due(self) -> None:
        """Do what is due now."""
        self._loop.run_due(self.sweep)

    def stop(self) -> None:
        self._loop.stop()

    def sweep(self, given: frozenset[Key]) -> None:
        """Deal with what these are about. Raises DataplaneError."""
        looked_at = frozenset(key for key in given if isinstance(key, Front))
        changed = self._changes(given)
        try:
            has_endings = self._judge(changed | looked_at, is_all=not given.isdisjoint({Look.EVERYTHING, Look.AGAIN}))
            if has_endings or not given.isdisjoint(Look):
                self._end()
        except DataplaneError:
            for front in changed:
                self._loop.mark(front)
            raise
        self._expected.settled(looked_at - changed)
        for front in changed:
            self._loop.mark(front, after=_SECOND_LOOK_SECONDS)
        if Look.EVERYTHING in given:
            self._loop.mark(Look.AGAIN, after=_SECOND_LOOK_SECONDS)

    def _changes(self, keys: frozenset[Key]) -> frozenset[Front]:
        names = {key for key in keys if isinstance(key, ServiceName)}
        if Look.EVERYTHING in keys:
            names.update(self._source.names(), self._expected.names())
        return frozenset().union(*map(self._update, names))

    def _update(self, name: ServiceName) -> frozenset[Front]:
        service = self._source.service(name)
        if service is None:
            return self._expected.update(name, {}, ends=True)
        try:
            fronts = answering.fronts(service, self._source.slices(name), self._family)
        except InvalidService:
            return frozenset()  # it stays as it was
        return self._expected.update(name, fronts, ends=not answering.keeps(service))

    def _judge(self, fronts: frozenset[Front], *, is_all: bool) -> bool:
        """Deal with the flows of these fronts, or with all; returns whether connections are to end."""
        node = self._addresses()
        stale = [flow for flow in self._flows(UDP, fronts, is_all=is_all) if self._is_stale(flow, node)]
        if is_all:
            stale += self._lost()
        deleted = sum(map(self._connections.delete, stale))
        if deleted:
            log.info("stale flows deleted", family=self._family, flows=deleted)
        if TCP not in self._expected.protocols():
            return False
        ending = [self._let_end(flow, node) for flow in self._flows(TCP, fronts, is_all=is_all)]
        if any(ending):
            log.info("connections of endpoints that are gone end", family=self._family, connections=sum(ending))
        return any(ending)

    def _flows(self, protocol: int, fronts: Iterable[Front], *, is_all: bool) -> Iterable[Flow]:
        sent = {Sent(front.address, front.port) for front in fronts if front.protocol == protocol}
        if is_all or len(sent) > _SINGLE_DUMPS_MAX:
            return itertools.chain.from_iterable(
                self._connections.flows(self._version, protocol, marks=marks)
                for marks in (flow_marks.OURS, flow_marks.UNMARKED)
            )
        return itertools.chain.from_iterable(self._connections.flows(self._version, protocol, sent=one) for one in sent)

    def _is_stale(self, flow: Flow, node: Collection[Address]) -> bool:
        front = self._expected.front_of(flow)
        expected = self._expected.of(front)
        if front is None or expected is None:
            return flow_marks.is_ours(flow.mark) and flow.is_translated
        return self._is_for(front, flow, node) and not answering.is_answered(flow, expected)

    def _is_for(self, front: Front, flow: Flow, node: Collection[Address]) -> bool:
        """Whether a flow to a port that is a node port went to this node."""
        return front.address is not None or flow_marks.is_ours(flow.mark) or flow.destination in node

    def _lost(self) -> list[Flow]:
        """Connections begun while there was no table: forgotten, so that the client's second try is placed."""
        begun = (
            flow
            for flow in self._connections.flows(self._version, TCP, marks=flow_marks.UNMARKED)
            if flow.state == TCP_CONNTRACK_SYN_SENT and not flow.is_translated
        )
        found = list(begun)
        cluster_ips = self._cluster_ips() if found else frozenset()
        return [flow for flow in found if str(flow.destination) in cluster_ips]

    def _cluster_ips(self) -> frozenset[str]:
        services = filter(None, map(self._source.service, self._source.names()))
        return frozenset(
            text for service in services for text in service.spec.cluster_ips or (service.spec.cluster_ip,)
        )

    def _let_end(self, flow: Flow, node: Collection[Address]) -> bool:
        """Mark a connection whose target is gone with the time of its end, if it is to have one."""
        front = self._expected.front_of(flow)
        expected = self._expected.of(front)
        if front is None or expected is None or expected.drain is None:
            return False
        if flow.is_ending or answering.is_answered(flow, expected) or not self._is_for(front, flow, node):
            return False
        if flow.state == TCP_CONNTRACK_SYN_SENT:
            self._connections.delete(flow)  # the client's next try is placed anew
            return False
        mark = flow_marks.ending_at(self._clock() + expected.drain) if expected.drain else flow_marks.RESET
        return self._connections.set_mark(flow, mark)

    def _end(self) -> None:
        """Go on with the connections that are being reset, and begin with those whose time is over."""
        resetting: list[Flow] = []
        waits: list[float] = []
        for flow in self._connections.flows(self._version, TCP, marks=flow_marks.ENDING):
            left = 0.0 if flow.mark == flow_marks.RESET else flow_marks.seconds_left(flow.mark, self._clock())
            if flow.mark != flow_marks.RESET and self._is_spared(flow):
                self._connections.set_mark(flow, flow_marks.SPARED)
            elif left > 0:
                waits.append(left)
            elif flow.mark == flow_marks.RESET or self._connections.set_mark(flow, flow_marks.RESET):
                resetting.append(flow)
        again = self._resets.proceed(resetting)
        if again is not None:
            waits.append(again)
        if waits:
            self._loop.mark(Look.ENDINGS, after=min(waits))

    def _is_spared(self, flow: Flow) -> bool:
        """Whether its target is back, or its Service wants it to go on now."""
        expected = self._expected.of(self._expected.front_of(flow))
        return expected is not None and answering.is_answered(flow, expected)
