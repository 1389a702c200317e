"""What Prometheus gets to read: kube-proxy's names, and connections by Service port and endpoint.

Address plan: cluster IPs 10.96.0.0/24, endpoints 10.244.0.0/16.
"""

import json

import pytest

from dataplane.errors import DataplaneError
from dataplane.nft import values
from dataplane.nft.fake import FakeNft
from dataplane.nft.objects import Passed
from kube.control import SyncFailed
from proxy import layout
from proxy.configuration import KubeProxyConfiguration
from proxy.health import Health
from proxy.metrics import ConnectionMetrics, Metrics
from proxy.metrics_server import MetricsPages
from proxy.planning import Planner
from proxy.rounds import Rounds
from proxy.sync import RESYNC, Syncer
from proxy.traffic import Traffic
from tests.services import RULESET, FakeTable, World, endpoint_slice, named, service

WEB = named("web")
# k8s.io/kubernetes pkg/proxy/metrics, as far as they concern nftables and this part of the proxy.
NAMES = (
    "kubeproxy_sync_proxy_rules_duration_seconds_bucket",
    "kubeproxy_sync_full_proxy_rules_duration_seconds_bucket",
    "kubeproxy_sync_partial_proxy_rules_duration_seconds_bucket",
    "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
    "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
    "kubeproxy_sync_proxy_rules_endpoint_changes_total",
    "kubeproxy_sync_proxy_rules_service_changes_pending",
    "kubeproxy_sync_proxy_rules_service_changes_total",
    "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
)


class Rounding:
    """Rounds whose sync does what the test says."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.outcome: Exception | None = None
        self.told: list = []
        self.invalid: dict = {}
        self.rounds = Rounds(
            self, Health(), self.metrics, family="IPv4", tell=lambda name, error: self.told.append((name, error))
        )

    def sync(self, _keys) -> None:
        if self.outcome:
            raise self.outcome

    def value(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(f"kubeproxy_{name}", {"ip_family": "IPv4"})


@pytest.fixture
def rounding() -> Rounding:
    return Rounding()


@pytest.mark.parametrize("name", NAMES)
def test_kube_proxys_names_are_there_by_family(rounding, name):
    lines = [line for line in rounding.metrics.expose().decode().splitlines() if line.startswith(f"{name}{{")]

    assert lines
    assert all('ip_family="IPv4"' in line for line in lines)


def test_no_series_says_when_it_was_created(rounding):
    assert "_created" not in rounding.metrics.expose().decode()


def test_the_process_tells_of_itself(rounding):
    assert "process_resident_memory_bytes" in rounding.metrics.expose().decode()


def test_changes_are_pending_until_a_round_has_applied_them(rounding):
    rounding.rounds.on_service(None, None)
    rounding.rounds.on_endpoint_slice(None, None)
    rounding.rounds.on_endpoint_slice(None, None)
    before = rounding.value("sync_proxy_rules_endpoint_changes_pending")
    rounding.rounds.sync(frozenset({WEB}))

    assert (before, rounding.value("sync_proxy_rules_endpoint_changes_pending")) == (2, 0)
    assert rounding.value("sync_proxy_rules_endpoint_changes_total") == 2
    assert rounding.value("sync_proxy_rules_service_changes_total") == 1


def test_changes_stay_pending_when_the_round_fails(rounding):
    rounding.rounds.on_service(None, None)
    rounding.outcome = DataplaneError("commit")
    with pytest.raises(DataplaneError):
        rounding.rounds.sync(frozenset({WEB}))

    assert rounding.value("sync_proxy_rules_service_changes_pending") == 1
    assert rounding.value("sync_proxy_rules_nftables_sync_failures_total") == 1
    assert rounding.value("sync_proxy_rules_last_timestamp_seconds") == 0


def test_a_round_with_one_bad_service_is_a_failure_that_applied_the_rest(rounding):
    rounding.rounds.on_service(None, None)
    rounding.outcome = SyncFailed({WEB: DataplaneError("commit")})
    with pytest.raises(SyncFailed):
        rounding.rounds.sync(frozenset({WEB}))

    assert rounding.value("sync_proxy_rules_nftables_sync_failures_total") == 1
    assert rounding.value("sync_proxy_rules_service_changes_pending") == 0
    assert rounding.told == list(rounding.outcome.failures.items())


def test_full_rounds_are_told_from_partial_ones(rounding):
    rounding.rounds.sync(frozenset({RESYNC}))
    rounding.rounds.sync(frozenset({WEB}))
    rounding.rounds.sync(frozenset({WEB}))

    assert rounding.value("sync_proxy_rules_duration_seconds_count") == 3
    assert rounding.value("sync_full_proxy_rules_duration_seconds_count") == 1
    assert rounding.value("sync_partial_proxy_rules_duration_seconds_count") == 2


# --- connections


class Counting:
    """A synced table in memory and what is exposed of its counters."""

    def __init__(self) -> None:
        self.world, self.table = World(), FakeTable()
        self.syncer = Syncer(
            self.table,
            RULESET,
            Planner(self.world, node="node1", family="IPv4"),
            later=lambda *_: None,
        )
        self.metrics = Metrics()
        self.metrics.add(ConnectionMetrics({"IPv4": self.table}, lambda: {"IPv4": self.syncer.served()}))
        self.syncer.sync(frozenset({RESYNC}))

    def put(self, *endpoints: str) -> None:
        self.syncer.sync(frozenset({self.world.put(service(), endpoint_slice("web", endpoints))}))

    def passes(self, target: str, packets: int) -> None:
        """Connections so far, as the kernel counts them."""
        for element in self.table.elements(layout.ENDPOINTS):
            if element.value[:4] == bytes(map(int, target.split("."))):
                self.table.passed[element.key] = Passed(packets, packets * 60)

    def lines(self) -> list[str]:
        return [line for line in self.metrics.expose().decode().splitlines() if line.startswith("podwire_")]


PORT = 'ip_family="IPv4",namespace="default",port="http",protocol="TCP",service="web"'


@pytest.fixture
def counting() -> Counting:
    return Counting()


def test_connections_are_told_by_service_port_and_by_endpoint(counting):
    counting.put("10.244.0.2", "10.244.0.3", "10.244.0.4")
    counting.passes("10.244.0.2", 5)
    counting.passes("10.244.0.3", 4)

    assert sorted(counting.lines()) == [
        f'podwire_endpoint_connections_total{{endpoint="10.244.0.2:8080",{PORT}}} 5.0',
        f'podwire_endpoint_connections_total{{endpoint="10.244.0.3:8080",{PORT}}} 4.0',
        f"podwire_service_connections_total{{{PORT}}} 9.0",
    ]


def test_the_services_total_does_not_fall_when_an_endpoint_goes(counting):
    counting.put("10.244.0.2", "10.244.0.3")
    counting.passes("10.244.0.2", 5)
    counting.lines()
    counting.put("10.244.0.3")

    assert counting.lines() == [f"podwire_service_connections_total{{{PORT}}} 5.0"]


def test_a_counter_that_begins_anew_adds_to_the_total(counting):
    counting.put("10.244.0.2")
    counting.passes("10.244.0.2", 5)
    counting.lines()
    counting.passes("10.244.0.2", 2)

    assert f"podwire_service_connections_total{{{PORT}}} 7.0" in counting.lines()


def test_what_a_reading_missed_is_not_counted_twice(counting):
    counting.put("10.244.0.2")
    traffic, served = Traffic(), counting.syncer.served()
    (element,) = counting.table.elements(layout.ENDPOINTS)
    number = values.mark_number(element.key)
    for counts in ({number: 5}, {}, {number: 6}):
        traffic.observe(counts, served)

    assert list(traffic.ports.values()) == [6]


def test_a_deleted_service_is_no_longer_told_of(counting):
    counting.put("10.244.0.2")
    counting.lines()
    counting.syncer.sync(frozenset({counting.world.remove(WEB)}))

    assert counting.lines() == []


def test_a_missing_table_counts_nothing_and_fails_nobody():
    metrics = Metrics()
    metrics.add(ConnectionMetrics({"IPv4": FakeNft(RULESET.table)}, lambda: {"IPv4": {}}))

    assert b"kubeproxy_" in metrics.expose()


# --- pages


@pytest.mark.parametrize(("path", "body"), [("/proxyMode", b"nftables"), ("/healthz", b"ok")])
def test_the_metrics_address_tells_mode_and_health(path, body):
    assert MetricsPages(Metrics(), KubeProxyConfiguration())(path).body == body


def test_figures_are_served_as_prometheus_reads_them():
    answer = MetricsPages(Metrics(), KubeProxyConfiguration())("/metrics")

    assert answer.content_type.startswith("text/plain; version=")
    assert b"# TYPE kubeproxy_proxy_healthz_total counter" in answer.body


def test_other_paths_of_the_metrics_address_are_not_found():
    assert MetricsPages(Metrics(), KubeProxyConfiguration())("/").status == 404


def test_the_configuration_in_effect_is_served():
    said = json.loads(MetricsPages(Metrics(), KubeProxyConfiguration(hostname_override="node1"))("/configz").body)

    assert said["kubeproxy.config.k8s.io"]["hostnameOverride"] == "node1"
    assert said["kubeproxy.config.k8s.io"]["conntrack"]["tcpEstablishedTimeout"] == "24h"
