"""healthCheckNodePort: which Services have one, who counts as local, and what is answered, to the byte.

Address plan: endpoints 10.244.0.0/16 on node1 (here) and node2.
"""

import http.client
import socket
from ipaddress import ip_network

import pytest

from kube.control import SyncFailed
from proxy.health import Health
from proxy.health_check import HealthCheck, body, health_check
from proxy.health_check_ports import REASON, HealthCheckPorts
from proxy.here import Here
from tests.services import World, endpoint, endpoint_slice, named, service

WEB = named("web")
ANSWER = (
    '{\n\t"service": {\n\t\t"namespace": "default",\n\t\t"name": "web"\n\t},\n'
    '\t"localEndpoints": 1,\n\t"serviceProxyHealthy": true\n}'
)


def load_balanced(name: str = "web", port: int = 30999, **spec):
    given = {"type": "LoadBalancer", "external_traffic_policy": "Local", "health_check_node_port": port, **spec}
    return service(name, **given)


def check(given, *slices) -> HealthCheck | None:
    return health_check(given, slices, node="node1", family="IPv4")


@pytest.mark.parametrize(
    "given",
    [
        None,
        load_balanced(type="NodePort"),
        load_balanced(external_traffic_policy="Cluster"),
        load_balanced(port=0),
        load_balanced(port=65536),
        load_balanced(cluster_ip="None"),
        load_balanced(labels={"service.kubernetes.io/service-proxy-name": ""}),
    ],
    ids=["gone", "type", "policy", "no port", "bad port", "headless", "another proxy's"],
)
def test_only_load_balancers_with_local_policy_have_a_health_check(given):
    assert check(given, endpoint_slice("web", ["10.244.0.2"])) is None


@pytest.mark.parametrize(
    ("endpoints", "count"),
    [
        ([], 0),
        ([endpoint("10.244.0.2")], 1),
        ([endpoint("10.244.0.2"), endpoint("10.244.0.3"), endpoint("10.244.1.2", node="node2")], 2),
        ([endpoint("10.244.0.2"), endpoint("10.244.0.2")], 1),
        ([endpoint("10.244.0.2", node=None)], 0),
        ([endpoint("10.244.0.2", ready=False)], 0),
        ([endpoint("10.244.0.2", ready=False, serving=True, terminating=True)], 0),
        ([endpoint("10.244.0.2", ready=True, terminating=True)], 0),
        ([endpoint("2001:db8::2")], 0),
        ([endpoint("garbage")], 0),
    ],
)
def test_ready_endpoints_on_this_node_count_once_each(endpoints, count):
    assert check(load_balanced(), endpoint_slice("web", endpoints)).local_endpoints == count


def test_a_pod_in_two_slices_counts_once():
    slices = [endpoint_slice("web", ["10.244.0.2"], name=f"web-{number}") for number in (1, 2)]

    assert check(load_balanced(), *slices) == HealthCheck(port=30999, local_endpoints=1)


def test_the_body_is_kube_proxys_to_the_byte():
    assert body(WEB, 1, is_proxy_healthy=True).decode() == ANSWER


# --- over HTTP


class Ports:
    """Servers for what the world holds, on free ports."""

    def __init__(self) -> None:
        self.world = World()
        self.health = Health()
        self.told: list = []
        self.here = Here(node="node1", nodeport_addresses=(ip_network("0.0.0.0/0"),))
        self.ports = HealthCheckPorts(
            self.world,
            self.health,
            look=lambda: self.here,
            family="IPv4",
            tell=lambda *what: self.told.append(what),
        )

    def put(self, *given) -> None:
        self.ports.sync(frozenset({self.world.put(*given)}))

    def synced(self) -> None:
        self.health.taken("IPv4")
        self.health.applied("IPv4")


@pytest.fixture
def ports():
    made = Ports()
    yield made
    for name in made.world.names():
        made.ports.sync(frozenset({made.world.remove(name)}))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        return holder.getsockname()[1]


def get(port: int, path: str = "/any/path"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer, answer.read().decode()


def is_open(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def test_a_node_with_a_local_endpoint_is_healthy_on_every_path(ports):
    port = free_port()
    ports.synced()
    ports.put(load_balanced(port=port), endpoint_slice("web", ["10.244.0.2"]))
    answer, said = get(port)

    assert (answer.status, said) == (200, ANSWER)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Load-Balancing-Endpoint-Weight"] == "1"


def test_the_answer_follows_the_endpoints(ports):
    port = free_port()
    ports.synced()
    statuses = []
    for endpoints in (["10.244.0.2"], [], ["10.244.0.3", "10.244.0.4"]):
        ports.put(load_balanced(port=port), endpoint_slice("web", endpoints))
        statuses.append(get(port)[0].status)

    assert statuses == [200, 503, 200]
    assert get(port)[0].headers["X-Load-Balancing-Endpoint-Weight"] == "2"


def test_an_unhealthy_proxy_makes_every_health_check_fail(ports):
    port = free_port()
    ports.put(load_balanced(port=port), endpoint_slice("web", ["10.244.0.2"]))
    answer, said = get(port)

    assert answer.status == 503
    assert '"serviceProxyHealthy": false' in said


def test_it_is_answered_where_node_ports_are_served_as_that_changes(ports):
    port = free_port()
    ports.put(load_balanced(port=port), endpoint_slice("web", ["10.244.0.2"]))
    ports.here = Here(node="node1", nodeport_addresses=(ip_network("192.0.2.1"),))
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        get(port)
    ports.here = Here(node="node1", nodeport_addresses=(ip_network("127.0.0.0/8"),))

    assert get(port)[0].status == 503


def test_a_port_is_closed_with_its_service_and_follows_a_change(ports):
    first, second = free_port(), free_port()
    ports.put(load_balanced(port=first))
    ports.put(load_balanced(port=second))
    assert (is_open(first), is_open(second)) == (False, True)
    ports.ports.sync(frozenset({ports.world.remove(WEB)}))

    assert not is_open(second)


def test_a_port_changes_hands_in_one_round(ports):
    port = free_port()
    ports.put(load_balanced("old", port=port))
    names = frozenset({ports.world.put(load_balanced("old", port=0)), ports.world.put(load_balanced("new", port=port))})
    ports.ports.sync(names)

    assert '"name": "new"' in get(port)[1]
    assert ports.told == []


def test_a_taken_port_is_told_and_had_later(ports):
    with socket.create_server(("0.0.0.0", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(SyncFailed):
            ports.put(load_balanced(port=port), endpoint_slice("web", ["10.244.0.2"]))
    name, reason, message = ports.told[0]
    assert (name, reason) == (WEB, REASON)
    assert f"spec.healthCheckNodePort {port}: Address already in use" in message
    ports.ports.sync(frozenset({WEB}))

    assert is_open(port)
