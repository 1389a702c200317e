"""The proxy's parts and their threads, put together.

informers ──► Inputs ──marks──► ControlLoop ──► Syncer ──► table
                                    ▲             └──► StaleFlows ──► conntrack
             Monitor ──foreign──────┘

Nothing is written before Services and EndpointSlices have both been listed: half of the truth would cut connections.
Without the API server the table stays as it is, and is still defended.
"""

import threading
from collections.abc import Mapping
from typing import Final

import structlog

from dataplane.errors import DataplaneError
from dataplane.nft.interface import Monitor, Nft
from dataplane.nft.objects import Family
from kube import objects
from kube.control import ControlLoop
from kube.http import Client
from kube.informer import Informer
from kube.resources import ENDPOINT_SLICES, NODES, SERVICES
from proxy import model
from proxy.counted import CountedConnections, LocalityMetrics
from proxy.events import Recorder
from proxy.flows import Connections, StaleFlows
from proxy.health import Health
from proxy.health_check_ports import HealthCheckPorts
from proxy.here import Settings
from proxy.inputs import Inputs
from proxy.metrics import Metrics
from proxy.model import ServiceName
from proxy.planning import Planner, Served
from proxy.rounds import Rounds
from proxy.ruleset import Ruleset
from proxy.surroundings import Surroundings
from proxy.sync import NODE, RESYNC, Syncer
from proxy.trouble import Trouble, on_node

log = structlog.get_logger(__name__)

_STOP_SECONDS: Final = 5.0
_FOLLOW_AGAIN_SECONDS: Final = 1.0


class Proxy:
    """Serves the Services of one address family on this node, from `start` to `stop`; the table outlives it."""

    def __init__(self, client: Client, nft: Nft, connections: Connections, settings: Settings) -> None:
        node = settings.node
        self.health = Health()
        self.metrics = Metrics()
        self._services: Informer[objects.Service] = Informer(
            client,
            SERVICES,
            objects.Service,
            label_selector=f"!{model.SERVICE_PROXY_NAME}",
            field_selector="spec.clusterIP!=None",
        )
        self._slices: Informer[objects.EndpointSlice] = Informer(
            client, ENDPOINT_SLICES, objects.EndpointSlice, label_selector=f"!{model.HEADLESS}"
        )
        self._nodes: Informer[objects.Node] = Informer(
            client, NODES, objects.Node, field_selector=f"metadata.name={node}"
        )
        self._loop: ControlLoop[ServiceName] = ControlLoop("services")
        self._surroundings = Surroundings(
            client, self._nodes, settings, family="IPv4", changed=lambda: self._loop.mark(NODE)
        )
        self._flows = StaleFlows(CountedConnections(connections, self.metrics))
        self._nft = nft
        inputs = Inputs(self._services.cache, self._slices.cache, self._mark)
        self.metrics.add(LocalityMetrics(inputs, node=node, family="IPv4"))
        self._syncer = Syncer(
            nft,
            Ruleset(Family.IP),
            Planner(inputs, node=node, family="IPv4", look=self._surroundings.look),
            later=lambda key, seconds: self._loop.mark(key, after=seconds),
            expect_udp=self._flows.expect,
        )
        self.events = Recorder(client, node=node)
        self._node = node
        trouble = Trouble(self.events, self._services.cache)
        self._services.on_unreadable(trouble.unreadable(SERVICES))
        self._slices.on_unreadable(trouble.unreadable(ENDPOINT_SLICES))
        self._rounds = Rounds(self._syncer, self.health, self.metrics, family="IPv4", tell=trouble.service)
        self._services.cache.subscribe(self._rounds.on_service)
        self._slices.cache.subscribe(self._rounds.on_endpoint_slice)
        self._nodes.cache.subscribe(lambda _, node: self.health.node_is(node))
        self._health_checks = HealthCheckPorts(
            inputs, self.health, node=node, family="IPv4", tell=trouble.about_service
        )
        self._monitor: Monitor = nft.monitor()
        self._stopping = threading.Event()
        self._threads = self._made_threads()

    def _made_threads(self) -> list[threading.Thread]:
        runs = (
            ("services", self._run),
            ("udp-flows", self._flows.run),
            ("health-check-ports", self._health_checks.run),
            ("monitor", self._watch_table),
        )
        return [threading.Thread(target=run, name=name, daemon=True) for name, run in runs]

    def served(self) -> Mapping[ServiceName, Served]:
        return self._syncer.served()

    def warn(self, reason: str, message: str) -> None:
        """Tell of this proxy's own trouble, on its Node."""
        self.events.record(on_node(self._node, reason, message, is_warning=True))

    def start(self) -> None:
        self.events.start()
        self.events.record(on_node(self._node, "Starting", "podwire-proxy starts", is_warning=False))
        self._services.start()
        self._slices.start()
        self._nodes.start()
        self._surroundings.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads after the round they are in."""
        self._stopping.set()
        self._loop.stop()
        self._flows.stop()
        self._health_checks.stop()
        self._monitor.stop()
        self._services.stop()
        self._slices.stop()
        self._nodes.stop()
        self._surroundings.stop()
        self.events.stop()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)
        self._monitor.close()

    def _mark(self, name: ServiceName) -> None:
        self._loop.mark(name)
        self._health_checks.mark(name)

    def _run(self) -> None:
        for cache in (self._services.cache, self._slices.cache):
            while not cache.synced.wait(0.1):
                if self._stopping.is_set():
                    return
        self._surroundings.wait()
        self._loop.mark(RESYNC)
        self._loop.run(self._rounds.sync)

    def _watch_table(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow_changes()
            except DataplaneError as error:  # the thread's edge: without it the table would no longer be defended
                log.warning("changes of the table cannot be followed; checking all of it", error=str(error))
                self._loop.mark(RESYNC)
                self._stopping.wait(_FOLLOW_AGAIN_SECONDS)
            else:
                return

    def _follow_changes(self) -> None:
        """Until the proxy stops."""
        for change in self._monitor.changes():
            if change.touches(self._nft.table):
                log.warning(
                    "somebody else changed the table; checking all of it",
                    table=str(self._nft.table),
                    command=change.command or "unknown",
                    process=change.process_id,
                    what=", ".join(sorted(change.what)),
                )
                self._loop.mark(RESYNC)
