"""The proxy's figures under kube-proxy's names, so that its dashboards and alerts go on, and connection counts beside.

What kube-proxy counts and podwire cannot have is absent: iptables' and ipvs' own figures.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from dataplane.errors import NotFound
from dataplane.nft import values
from dataplane.nft.interface import Nft
from proxy import layout
from proxy.model import Family, ServiceName, ServicePortName
from proxy.served import Served
from proxy.traffic import Traffic

_FAMILY: Final = ("ip_family",)
# k8s.io/kubernetes pkg/proxy/metrics: 1 ms, doubled fourteen times.
_ROUND_BUCKETS: Final = tuple(0.001 * 2**power for power in range(15))

# The same file, NetworkProgrammingLatency: from a quarter of a second to five minutes, finest around a second.
_PROGRAMMING_BUCKETS: Final = (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))

CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_LATEST

_PORT: Final = ("namespace", "service", "port", "protocol", "ip_family")


class Metrics:
    """All of them, in a registry of their own."""

    def __init__(self) -> None:
        # It makes a second series of each counter, which kube-proxy has not.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.rounds = self._histogram("sync_proxy_rules_duration_seconds", "Time a round took")
        self.full_rounds = self._histogram(
            "sync_full_proxy_rules_duration_seconds", "Time a round took that read the whole table"
        )
        self.partial_rounds = self._histogram(
            "sync_partial_proxy_rules_duration_seconds", "Time a round took that wrote what had changed"
        )
        self.last_synced = self._gauge("sync_proxy_rules_last_timestamp_seconds", "When a round last succeeded")
        self.last_queued = self._gauge("sync_proxy_rules_last_queued_timestamp_seconds", "When a change last came")
        self.service_changes = self._counter("sync_proxy_rules_service_changes", "Changes of Services")
        self.service_changes_pending = self._gauge(
            "sync_proxy_rules_service_changes_pending", "Changes of Services that no round has applied yet"
        )
        self.endpoint_changes = self._counter("sync_proxy_rules_endpoint_changes", "Changes of EndpointSlices")
        self.endpoint_changes_pending = self._gauge(
            "sync_proxy_rules_endpoint_changes_pending", "Changes of EndpointSlices that no round has applied yet"
        )
        self.failures = self._counter(
            "sync_proxy_rules_nftables_sync_failures", "Rounds that failed, for all Services or for some"
        )
        self.deleted_flows = self._counter(
            "conntrack_reconciler_deleted_entries", "Conntrack entries deleted because nobody answers there any more"
        )
        self.cleanup_failures = self._counter(
            "sync_proxy_rules_nftables_cleanup_failures", "Chains no longer used that the kernel refused to delete"
        )
        self.programming = Histogram(
            "kubeproxy_network_programming_duration_seconds",
            "Time from a change of endpoints to the rules that follow it",
            _FAMILY,
            buckets=_PROGRAMMING_BUCKETS,
            registry=self.registry,
        )
        self.flow_rounds = self._histogram(
            "conntrack_reconciler_sync_duration_seconds", "Time a look at connections took after a round"
        )
        self.healthz = Counter("kubeproxy_proxy_healthz", "Answers of /healthz", ("code",), registry=self.registry)
        self.livez = Counter("kubeproxy_proxy_livez", "Answers of /livez", ("code",), registry=self.registry)

    def add(self, collector: Collector) -> None:
        self.registry.register(collector)

    def expose(self) -> bytes:
        """The text Prometheus reads."""
        return prometheus_client.generate_latest(self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"kubeproxy_{name}", text, _FAMILY, buckets=_ROUND_BUCKETS, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"kubeproxy_{name}", text, _FAMILY, registry=self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"kubeproxy_{name}", text, _FAMILY, registry=self.registry)


class ConnectionMetrics(Collector):
    """Reads the kernel's counters when Prometheus asks; give it sockets of its own, for not to hold up rounds."""

    def __init__(
        self, tables: Mapping[Family, Nft], served: Callable[[], Mapping[Family, Mapping[ServiceName, Served]]]
    ) -> None:
        self._tables = tables
        self._served = served
        self._traffic = {family: Traffic() for family in tables}
        self._lock = threading.Lock()

    def collect(self) -> Iterator[CounterMetricFamily]:
        by_port = CounterMetricFamily("podwire_service_connections", "Connections to a Service port", labels=_PORT)
        by_endpoint = CounterMetricFamily(
            "podwire_endpoint_connections",
            "Connections an endpoint got for a Service port",
            labels=(*_PORT, "endpoint"),
        )
        with self._lock:
            served = self._served()
            for family, traffic in self._traffic.items():
                traffic.observe(self._counts(family), served[family])
                for port, count in traffic.ports.items():
                    by_port.add_metric(_labels(port, family), count)
                for owner, count in traffic.endpoints.items():
                    if count:  # most endpoints of a large cluster never hear from this node
                        by_endpoint.add_metric((*_labels(owner.port, family), str(owner.target)), count)
        yield by_port
        yield by_endpoint

    def describe(self) -> Iterator[CounterMetricFamily]:
        """Nothing is read before there is a table."""
        return iter(())

    def _counts(self, family: Family) -> Mapping[int, int]:
        try:
            counters = self._tables[family].counters(layout.ENDPOINTS)
        except NotFound:
            return {}
        return {values.mark_number(key): passed.packets for key, passed in counters.items()}


def _labels(port: ServicePortName, family: Family) -> tuple[str, ...]:
    return port.service.namespace, port.service.name, port.port, port.protocol, family
