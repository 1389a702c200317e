"""One address family's part of the proxy: its table, its rounds of work, its connections and health check ports.

Families share what the API says, nothing else: a table that cannot be written holds up no other.
"""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from dataplane.nft.interface import Change, Nft
from dataplane.nft.objects import Family as TableFamily
from kube.control import ControlLoop, SyncFailed
from proxy.counted import CountedConnections, timed
from proxy.flows import Connections, Flows
from proxy.health import Health
from proxy.health_check_ports import HealthCheckPorts
from proxy.inputs import Inputs
from proxy.metrics import Metrics
from proxy.model import Family, ServiceName
from proxy.planning import Planner
from proxy.programming_latency import ProgrammingLatency
from proxy.resets import Probe, Resets
from proxy.rounds import Rounds
from proxy.ruleset import Ruleset
from proxy.served import Served
from proxy.surroundings import Surroundings
from proxy.sync import NO_SERVICES, NODE, RESYNC, Syncer
from proxy.trouble import Trouble

log = structlog.get_logger(__name__)

# Between rounds under a stream of changes; a Service of 1,000 endpoints takes about as much CPU for each of them.
_LONGEST_REST_SECONDS: Final = 0.02

# From the first round on: containers made before their cycles are looked for, and how often those that outlived it are.
_GARBAGE: Final = (100_000, 50, 1000)

FAMILIES: Final[Mapping[TableFamily, Family]] = {TableFamily.IP: "IPv4", TableFamily.IP6: "IPv6"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all families of a proxy have in common."""

    node: str
    inputs: Inputs
    surroundings: Surroundings
    connections: Connections
    probe: Probe
    health: Health
    metrics: Metrics
    trouble: Trouble
    await_lists: Callable[[], bool]
    """Returns when the API has told all there is to know; False if that will not be."""


class SingleStack:
    """Keeps one table, in the threads that run `runs`, until `stop`."""

    def __init__(self, nft: Nft, shared: Shared) -> None:
        self.family = FAMILIES[nft.table.family]
        self._nft = nft
        self._await_lists = shared.await_lists
        self._loop: ControlLoop[ServiceName] = ControlLoop(f"services-{self.family}", rest=_LONGEST_REST_SECONDS)
        self._syncer = Syncer(
            nft,
            Ruleset(nft.table.family),
            Planner(
                shared.inputs,
                node=shared.node,
                family=self.family,
                look=lambda: shared.surroundings.look(self.family),
            ),
            later=lambda key, seconds: self._loop.mark(key, after=seconds),
        )
        connections = CountedConnections(shared.connections, shared.metrics, family=self.family)
        self._flows = Flows(
            shared.inputs,
            connections,
            Resets(connections, shared.probe, nft),
            family=self.family,
            addresses=lambda: shared.surroundings.look(self.family).addresses,
        )
        self.latency = ProgrammingLatency(shared.metrics.programming.labels(self.family))
        self._cleanup_failures = shared.metrics.cleanup_failures.labels(self.family)
        self._cleanup_failures_counted = 0
        self._sweep_flows = timed(self._flows.sweep, shared.metrics, family=self.family)
        self.rounds = Rounds(
            self._syncer, shared.health, shared.metrics, family=self.family, tell=shared.trouble.service
        )
        self._health_checks = HealthCheckPorts(
            shared.inputs,
            shared.health,
            look=lambda: shared.surroundings.look(self.family),
            family=self.family,
            tell=shared.trouble.about_service,
        )

    @property
    def runs(self) -> Mapping[str, Callable[[], None]]:
        """What needs a thread each, by its name."""
        return {
            f"services-{self.family}": self._run,
            f"flows-{self.family}": lambda: self._flows.run(self._sweep_flows),
            f"health-check-ports-{self.family}": self._health_checks.run,
        }

    def served(self) -> Mapping[ServiceName, Served]:
        return self._syncer.served()

    def mark(self, name: ServiceName) -> None:
        """A Service, or its endpoints, changed."""
        self._loop.mark(name)
        self._health_checks.mark(name)

    def on_node(self) -> None:
        """What is known of the node changed."""
        self._loop.mark(NODE)

    def check(self) -> None:
        """Somebody may have changed the table."""
        self._loop.mark(RESYNC)

    def on_change(self, change: Change) -> None:
        """Somebody changed some table."""
        if change.touches(self._nft.table):
            log.warning(
                "somebody else changed the table; checking all of it",
                table=str(self._nft.table),
                command=change.command or "unknown",
                process=change.process_id,
                what=", ".join(sorted(change.what)),
            )
            self.check()

    def stop(self) -> None:
        self._loop.stop()
        self._flows.stop()
        self._health_checks.stop()

    def _run(self) -> None:
        self._syncer.look_ahead()
        if self._await_lists():
            self.check()
            self._loop.run_due(self._round)
            # What stands now mostly stays. To walk it in search of cycles takes 0.2 s at 10,000 Services, and a change
            # that comes then would wait.
            gc.freeze()
            gc.set_threshold(*_GARBAGE)
            self._loop.run(self._round)

    def _round(self, keys: frozenset[ServiceName]) -> None:
        self.latency.taken(keys)
        try:
            self.rounds.sync(keys)
        except SyncFailed as error:
            self._applied(keys.difference(error.failures))
            raise
        finally:
            failures = self._syncer.chains_not_deleted
            self._cleanup_failures.inc(failures - self._cleanup_failures_counted)
            self._cleanup_failures_counted = failures
        self._applied(keys)

    def _applied(self, keys: frozenset[ServiceName]) -> None:
        """The table follows these now."""
        self.latency.applied(keys)
        if RESYNC in keys:
            self._flows.everything_changed()  # all Services are among it
        else:
            self._flows.changed(keys - NO_SERVICES)
