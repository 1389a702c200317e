"""hostPorts with packets: from outside, from the node, from other pods and from the pod itself.

Address plan: pods 10.244.1.0/24, gateway .1 on the node; outside 192.0.2.2, node 192.0.2.1 and 192.0.2.3; hostPort 8080.
"""

import contextlib
import socket
import threading

import pytest

from tests.cni_plugin import PluginNode, finish
from tests.namespaces import connect
from tests.waiting import eventually

OUTSIDE, NODE, NODE_TOO = "192.0.2.2", "192.0.2.1", "192.0.2.3"
HOST_PORT, PORT = 8080, 7000
TABLE = ("nft", "list", "table", "ip", "podwire-cni")


def mapped(protocol="tcp", ip=""):
    mapping = {"hostPort": HOST_PORT, "containerPort": PORT, "protocol": protocol, "hostIP": ip}
    return {"runtimeConfig": {"portMappings": [mapping]}}


@pytest.fixture
def node(make_namespace, tmp_path) -> PluginNode:
    return PluginNode(make_namespace("node"), tmp_path)


@pytest.fixture
def outside(node, make_namespace):
    outside = make_namespace("outside")
    connect(node.namespace, f"{NODE}/24", outside, f"{OUTSIDE}/24", device="uplink")
    node.namespace.run("ip", "address", "add", f"{NODE_TOO}/24", "dev", "uplink")
    return outside


@pytest.fixture
def pod(make_namespace):
    return make_namespace("pod")


def address(answer) -> str:
    return answer["ips"][0]["address"].partition("/")[0]


def client_seen(pod, client, target=NODE) -> str:
    """Connect to the hostPort; the client's address as the pod sees it."""
    with pod.call(lambda: socket.create_server(("", PORT))) as listener:
        listener.settimeout(30)
        with client.call(lambda: socket.create_connection((target, HOST_PORT), timeout=30)):
            connection, peer = listener.accept()
            connection.close()
            return peer[0]


def test_the_pod_is_reached_from_outside_and_sees_the_client(node, pod, outside):
    node.call("ADD", pod, **mapped())
    assert client_seen(pod, outside) == OUTSIDE


def test_the_pod_is_reached_from_the_node_by_its_own_address(node, pod, outside):
    node.call("ADD", pod, **mapped())
    assert client_seen(pod, node.namespace) == NODE


def test_the_pod_is_reached_from_another_pod_of_the_node(node, pod, outside, make_namespace):
    other = make_namespace("pod")
    node.call("ADD", pod, **mapped())
    source = address(node.call("ADD", other))
    assert client_seen(pod, other) == source


def test_the_pod_reaches_itself_by_the_nodes_address(node, pod, outside):
    node.call("ADD", pod, **mapped())
    assert client_seen(pod, pod) == "10.244.1.1"


def test_a_hostip_leads_to_the_pod_and_other_addresses_do_not(node, pod, outside):
    node.call("ADD", pod, **mapped(ip=NODE_TOO))
    assert client_seen(pod, outside, NODE_TOO) == OUTSIDE
    with pytest.raises(ConnectionRefusedError):
        client_seen(pod, outside, NODE)


def test_after_delete_the_port_is_closed_and_the_table_empty(node, pod, outside):
    node.call("ADD", pod, **mapped())
    node.call("DEL", pod)
    with pytest.raises(ConnectionRefusedError):
        outside.call(lambda: socket.create_connection((NODE, HOST_PORT), timeout=30))
    assert "elements" not in node.namespace.run(*TABLE)


@contextlib.contextmanager
def udp(namespace, port):
    def bound():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("", port))
        made.settimeout(3)
        return made

    with namespace.call(bound) as made:
        yield made


def test_a_udp_client_that_never_stops_reaches_each_pod_in_its_turn(node, outside, make_namespace):
    """The same client socket before there is a pod, with the first one, and with its successor."""
    first, second = make_namespace("pod"), make_namespace("pod")
    with udp(outside, 5000) as client:
        client.sendto(b"nobody", (NODE, HOST_PORT))
        for pod in (first, second):
            node.call("ADD", pod, **mapped("udp"))
            with udp(pod, PORT) as server:
                payload, sender = eventually(lambda server=server: _heard(client, server))
                server.sendto(b"answer", sender)
                assert (payload, sender, _answer(client)) == (b"hello", (OUTSIDE, 5000), (b"answer", (NODE, HOST_PORT)))
            node.call("DEL", pod)


def _heard(client, server):
    """Datagrams may be lost."""
    client.sendto(b"hello", (NODE, HOST_PORT))
    with contextlib.suppress(TimeoutError):
        return server.recvfrom(100)


def _answer(client):
    while True:  # what was sent to nobody may have been refused with an ICMP error
        with contextlib.suppress(ConnectionRefusedError):
            return client.recvfrom(100)


def test_sctp_is_published_and_the_table_lists_and_loads_back(node, pod):
    node.call("ADD", pod, ipMasq=True, **mapped("sctp"))
    listing = node.namespace.run(*TABLE)
    assert f"sctp . {HOST_PORT}" in listing
    assert f"10.244.1.2 . {PORT}" in listing
    node.namespace.run("nft", "-c", "-f", "-", stdin=listing)


def test_of_many_who_want_one_port_at_once_exactly_one_gets_it(node, make_namespace):
    pods = [make_namespace("pod") for _ in range(6)]
    calls = [node.start("ADD", each, **mapped()) for each in pods]
    answers = [finish(call) for call in calls]
    assert sorted(answer.get("code", 0) for answer in answers) == [0, 106, 106, 106, 106, 106]
    assert len(node.leased()) == len(node.veths()) == 1


def test_pods_with_ports_come_and_go_at_once_and_nothing_stays(node, make_namespace):
    pods = [make_namespace("pod") for _ in range(6)]

    def live(number):
        mapping = {"hostPort": 9000 + number, "containerPort": PORT}
        assert node.call("ADD", pods[number], runtimeConfig={"portMappings": [mapping]})["exit"] == 0
        assert node.call("DEL", pods[number]) == {"exit": 0}

    threads = [threading.Thread(target=live, args=(number,)) for number in range(len(pods))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "elements" not in node.namespace.run(*TABLE)
    assert (node.leased(), node.veths()) == ({}, [])
