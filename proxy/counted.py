"""Figures that stand beside the sync and cost it nothing: flows deleted, and Services that have no endpoint here."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dataplane.conntrack import Flow
from proxy import model, topology
from proxy.flows import Connections
from proxy.metrics import Metrics
from proxy.model import Address, Family, InvalidService, ServiceName, ServicePort
from proxy.planning import Source

_FAMILIES: dict[int, Family] = {4: "IPv4", 6: "IPv6"}


class CountedConnections:
    """Conntrack, counting what is deleted."""

    def __init__(self, connections: Connections, metrics: Metrics) -> None:
        self._connections = connections
        self._metrics = metrics

    def udp_flows(self, version: int, *, destination: Address | None = None) -> Iterable[Flow]:
        return self._connections.udp_flows(version, destination=destination)

    def delete(self, flow: Flow) -> bool:
        """Whether the flow was still there."""
        is_deleted = self._connections.delete(flow)
        if is_deleted:
            self._metrics.deleted_flows.labels(_FAMILIES[flow.destination.version]).inc()
        return is_deleted


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
