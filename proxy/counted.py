"""Figures that stand beside the sync and cost it nothing: flows deleted, and Services that have no endpoint here."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dataplane.conntrack import ANYWHERE, Flow, Marks, Sent
from proxy import model, topology
from proxy.flows import Connections, Key
from proxy.metrics import Metrics
from proxy.model import Family, InvalidService, ServiceName, ServicePort
from proxy.planning import Source


class CountedConnections:
    """Conntrack, counting what is deleted."""

    def __init__(self, connections: Connections, metrics: Metrics, *, family: Family) -> None:
        self._connections = connections
        self._deleted = metrics.deleted_flows.labels(family)

    def flows(
        self, version: int, protocol: int, *, sent: Sent = ANYWHERE, marks: Marks | None = None
    ) -> Iterable[Flow]:
        return self._connections.flows(version, protocol, sent=sent, marks=marks)

    def delete(self, flow: Flow) -> bool:
        """Whether the flow was still there."""
        is_deleted = self._connections.delete(flow)
        if is_deleted:
            self._deleted.inc()
        return is_deleted

    def set_mark(self, flow: Flow, mark: int) -> bool:
        return self._connections.set_mark(flow, mark)


def timed(
    sweep: Callable[[frozenset[Key]], None], metrics: Metrics, *, family: Family
) -> Callable[[frozenset[Key]], None]:
    """The same, measured."""
    seconds = metrics.flow_rounds.labels(family)

    def timed_sweep(keys: frozenset[Key]) -> None:
        with seconds.time():
            sweep(keys)

    return timed_sweep


class LocalityMetrics(Collector):
    """Counts, when asked, the Service ports whose policy is Local and that are served, but not by this node."""

    def __init__(self, source: Source, *, node: str, families: Iterable[Family]) -> None:
        self._source = source
        self._node = node
        self._families = tuple(families)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found = GaugeMetricFamily(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Service ports with a Local traffic policy and no endpoint on this node",
            labels=("traffic_policy", "ip_family"),
        )
        for family in self._families:
            ports = list(self._ports_without_local_endpoints(family))
            found.add_metric(("internal", family), sum(port.local_only for port in ports))
            found.add_metric(("external", family), sum(port.external_local for port in ports))
        yield found

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing is looked at before somebody asks."""
        return iter(())

    def _ports_without_local_endpoints(self, family: Family) -> Iterator[ServicePort]:
        for name in self._source.names():
            for port in self._local_ports(name, family):
                choice = topology.choose(model.endpoints(self._source.slices(name), port), node=self._node)
                if choice.is_served and not choice.local:
                    yield port

    def _local_ports(self, name: ServiceName, family: Family) -> Iterator[ServicePort]:
        service = self._source.service(name)
        policies = (service.spec.internal_traffic_policy, service.spec.external_traffic_policy) if service else ()
        if service is None or "Local" not in policies:
            return
        try:
            ports = model.service_ports(service, family)
        except InvalidService:
            return
        yield from (port for port in ports if port.local_only or port.external_local)
