"""The proxy's parts and their threads, put together.

informers ──► Inputs ──marks──► SingleStack, one a family: ControlLoop ──► Syncer ──► its table
                                    ▲                             └─ after that ─► Flows ──► conntrack
             Monitor ──foreign──────┘

Nothing is written before Services and EndpointSlices have both been listed: half of the truth would cut connections.
Without the API server the table stays as it is, and is still defended.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from dataplane.errors import DataplaneError
from dataplane.nft.interface import Monitor, Nft
from kube import objects
from kube.http import Client
from kube.informer import Informer
from kube.resources import ENDPOINT_SLICES, NODES, SERVICES
from proxy import model
from proxy.counted import LocalityMetrics
from proxy.events import Recorder
from proxy.flows import Connections
from proxy.health import Health
from proxy.here import Settings
from proxy.inputs import Inputs
from proxy.metrics import Metrics
from proxy.model import Family, ServiceName
from proxy.resets import Probe
from proxy.served import Served
from proxy.single_stack import FAMILIES, Shared, SingleStack
from proxy.surroundings import Surroundings
from proxy.trouble import Trouble, on_node

log = structlog.get_logger(__name__)

_STOP_SECONDS: Final = 5.0
_FOLLOW_AGAIN_SECONDS: Final = 1.0


class Proxy:
    """Serves the Services of this node, from `start` to `stop`, with one table for each address family.

    The tables are beside each other: the monitor of one passes over the proxy's own changes of all. They outlive it.
    """

    def __init__(
        self, client: Client, tables: Sequence[Nft], connections: Connections, settings: Settings, *, probe: Probe
    ) -> None:
        node = settings.node
        families = tuple(FAMILIES[nft.table.family] for nft in tables)
        self.health = Health(families)
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
        self._surroundings = Surroundings(client, self._nodes, settings, changed=self._on_node)
        self.events = Recorder(client, node=node)
        self._node = node
        trouble = Trouble(self.events, self._services.cache)
        self._services.on_unreadable(trouble.unreadable(SERVICES))
        self._slices.on_unreadable(trouble.unreadable(ENDPOINT_SLICES))
        self._services.cache.subscribe(trouble.on_service)
        self._slices.cache.subscribe(trouble.on_endpoint_slice)
        inputs = Inputs(self._services.cache, self._slices.cache, self._mark)
        self.metrics.add(LocalityMetrics(inputs, node=node, families=families))
        shared = Shared(
            node=node,
            inputs=inputs,
            surroundings=self._surroundings,
            connections=connections,
            probe=probe,
            health=self.health,
            metrics=self.metrics,
            trouble=trouble,
            await_lists=self._await_lists,
        )
        self.stacks = tuple(SingleStack(nft, shared) for nft in tables)
        for stack in self.stacks:
            self._services.cache.subscribe(stack.rounds.on_service)
            self._slices.cache.subscribe(stack.rounds.on_endpoint_slice)
            self._slices.cache.subscribe(stack.latency.on_endpoint_slice)
        self._nodes.cache.subscribe(lambda _, node: self.health.node_is(node))
        self._monitor: Monitor = tables[0].monitor()
        self._stopping = threading.Event()
        self._threads = self._made_threads()

    def _made_threads(self) -> list[threading.Thread]:
        runs = {"monitor": self._watch_tables}
        for stack in self.stacks:
            runs |= stack.runs
        return [threading.Thread(target=run, name=name, daemon=True) for name, run in runs.items()]

    def served(self) -> Mapping[Family, Mapping[ServiceName, Served]]:
        """What stands in each family's table; any thread may ask."""
        return {stack.family: stack.served() for stack in self.stacks}

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
        for stack in self.stacks:
            stack.stop()
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
        for stack in self.stacks:
            stack.mark(name)

    def _on_node(self) -> None:
        for stack in self.stacks:
            stack.on_node()

    def _await_lists(self) -> bool:
        """Return when the API has told all there is to know; False if the proxy stops instead."""
        for cache in (self._services.cache, self._slices.cache):
            while not cache.synced.wait(0.1):
                if self._stopping.is_set():
                    return False
        self._surroundings.wait()
        return True

    def _watch_tables(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow_changes()
            except DataplaneError as error:  # the thread's edge: without it the tables would no longer be defended
                log.warning("changes of the tables cannot be followed; checking all of them", error=str(error))
                for stack in self.stacks:
                    stack.check()
                self._stopping.wait(_FOLLOW_AGAIN_SECONDS)
            else:
                return

    def _follow_changes(self) -> None:
        """Until the proxy stops."""
        for change in self._monitor.changes():
            for stack in self.stacks:
                stack.on_change(change)
