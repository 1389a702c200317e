"""Figures beside the sync: deleted flows, and Service ports with a Local policy and nobody here.

Address plan: cluster IPs 10.96.0.0/24, endpoints 10.244.0.0/16 on node1 (here) and node2.
"""

from types import SimpleNamespace

import pytest

from dataplane.conntrack import Marks, Sent
from proxy.counted import CountedConnections, LocalityMetrics, timed
from proxy.metrics import Metrics
from tests.services import World, endpoint, endpoint_slice, service


class Flows:
    """Conntrack that has some flows."""

    def __init__(self, *there: object) -> None:
        self.there = set(map(id, there))

    def flows(self, version, protocol, *, sent=None, marks=None):
        return (version, protocol, sent, marks)

    def delete(self, flow) -> bool:
        return id(flow) in self.there


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"kubeproxy_{name}", {"ip_family": "IPv4", **labels})


def test_deleted_flows_are_counted_and_those_already_gone_are_not():
    metrics = Metrics()
    here, gone = SimpleNamespace(), SimpleNamespace()
    connections = CountedConnections(Flows(here), metrics, family="IPv4")

    assert [connections.delete(flow) for flow in (here, gone)] == [True, False]
    assert value(metrics, "conntrack_reconciler_deleted_entries_total") == 1
    assert connections.flows(4, 17, sent=Sent(port=53), marks=Marks(1)) == (4, 17, Sent(port=53), Marks(1))


def test_looks_at_connections_are_measured():
    metrics = Metrics()
    seen: list = []
    timed(seen.append, metrics, family="IPv4")(frozenset({"key"}))

    assert seen == [{"key"}]
    assert value(metrics, "conntrack_reconciler_sync_duration_seconds_count") == 1


@pytest.mark.parametrize(
    ("spec", "endpoints", "internal", "external"),
    [
        ({}, [endpoint("10.244.1.2", node="node2")], 0, 0),
        ({"internal_traffic_policy": "Local"}, [endpoint("10.244.1.2", node="node2")], 1, 0),
        ({"internal_traffic_policy": "Local"}, [endpoint("10.244.0.2")], 0, 0),
        ({"internal_traffic_policy": "Local"}, [], 0, 0),
        (
            {"type": "LoadBalancer", "external_traffic_policy": "Local"},
            [endpoint("10.244.1.2", node="node2")],
            0,
            1,
        ),
        ({"internal_traffic_policy": "Local", "cluster_ip": "bad"}, [endpoint("10.244.1.2", node="node2")], 0, 0),
    ],
    ids=["cluster", "elsewhere", "here", "nowhere", "external", "unreadable"],
)
def test_local_policies_without_anybody_here_are_counted(spec, endpoints, internal, external):
    world, metrics = World(), Metrics()
    given = service(**{"cluster_ip": "10.96.0.10", **spec})
    world.put(given, endpoint_slice("web", endpoints))
    metrics.add(LocalityMetrics(world, node="node1", families=("IPv4",)))

    name = "sync_proxy_rules_no_local_endpoints_total"
    assert value(metrics, name, traffic_policy="internal") == internal
    assert value(metrics, name, traffic_policy="external") == external
