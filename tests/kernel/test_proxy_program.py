"""podwire-proxy as a process beside a real podwire-api: killed, restarted, cut off and interfered with.

The node and its pods are those of tests/service_node.py; the API server listens inside the node. Cluster IPs: as the API
gives them.
"""

import contextlib
import http.client
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import service_node
from tests.api_server import ApiServer
from tests.proxy_reading import Front, Reading
from tests.service_node import GATEWAY, NODE, PATIENT, PODS, ServiceNode, ask
from tests.waiting import PATIENCE, eventually

A, B, C = PODS["a"], PODS["b"], PODS["c"]
SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


NODE_PORT = {"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}


class Program:
    """The API server, the proxy's process, and a client's view of both."""

    def __init__(self, node: ServiceNode, api: ApiServer, directory: Path) -> None:
        self.node = node
        self.api = api
        self._directory = directory
        self.process: subprocess.Popen | None = None

    @property
    def log(self) -> str:
        return (self._directory / "proxy.log").read_text()

    def start(self) -> None:
        with (self._directory / "proxy.log").open("ab") as log:
            flags = [f"--kubeconfig={self.api.kubeconfig}", "--hostname-override=node1"]
            self.process = self.node.node.start(sys.executable, "-m", "proxy", *flags, stderr=log)

    def end(self, number: int = signal.SIGKILL) -> int:
        """Returns the exit status. Kubernetes gives a pod 30 seconds to end."""
        self.process.send_signal(number)
        return self.process.wait(30 * PATIENCE)

    def restart(self, number: int = signal.SIGKILL) -> None:
        """Return when the new process has found everything and served it."""
        self.end(number)
        self.start()
        self.await_health()

    def await_health(self) -> None:
        self.node.inside("node", lambda: await_page(200))

    def somebody_changes_the_table(self) -> None:
        """One transaction that leaves the table as it was."""
        chain = "chain ip podwire-proxy mine"
        self.node.node.run("nft", "-f", "-", stdin=f"add {chain}\ndelete {chain}\n")

    def told_of(self) -> list[str]:
        """What was logged of changes by somebody else."""
        return [line for line in self.log.splitlines() if "somebody else" in line]

    def create(self, name: str, *endpoints: str, affinity: bool = False) -> str:
        """A Service with a slice written by hand; its cluster IP."""
        spec = {"ports": [{"name": "http", "port": 80}], **({"sessionAffinity": "ClientIP"} if affinity else {})}
        made = self._ask("POST", SERVICES, {"metadata": {"name": name}, "spec": spec})
        self._ask("POST", SLICES, self._slice(name, endpoints))
        return made["spec"]["clusterIP"]

    def change(self, name: str, *endpoints: str) -> None:
        self._ask("PUT", f"{SLICES}/{name}-1", self._slice(name, endpoints))

    def delete(self, name: str) -> None:
        self._ask("DELETE", f"{SERVICES}/{name}")
        self._ask("DELETE", f"{SLICES}/{name}-1")

    def move_node(self, address: str) -> None:
        node = json.loads(self.api.request("GET", "/api/v1/nodes/node1").data)
        node["status"] = {**node.get("status", {}), "addresses": [{"type": "InternalIP", "address": address}]}
        self._ask("PUT", "/api/v1/nodes/node1/status", node)

    @staticmethod
    def _slice(name: str, endpoints: tuple[str, ...]) -> dict:
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "nodeName": "node1"} for address in endpoints],
        }

    def _ask(self, method: str, path: str, body: dict | None = None) -> dict:
        answer = self.api.request(method, path, body)
        assert answer.status < 300, answer.data
        return json.loads(answer.data)

    def targets(self, cluster_ip: str) -> frozenset[str]:
        """Who gets new connections, by the kernel's table."""
        with contextlib.suppress(Exception):  # read while it is being changed, or gone
            way = Reading(self.node.nft).ways.get(Front(cluster_ip, "TCP", 80))
            return way.targets if way else frozenset()
        return frozenset()

    def await_targets(self, cluster_ip: str, *addresses: str) -> None:
        wanted = {f"{address}:8080" for address in addresses}
        eventually(lambda: self.targets(cluster_ip) == wanted)

    def delete_all(self) -> None:
        for collection in (SERVICES, SLICES):
            for item in json.loads(self.api.request("GET", collection).data)["items"]:
                if item["metadata"]["name"] != "kubernetes":
                    self._ask("DELETE", f"{collection}/{item['metadata']['name']}")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with service_node.service_node() as node:
        server = ApiServer(home=node.node, directory=tmp_path_factory.mktemp("api") / "data")
        server.node = node
        server.start()
        server.request("POST", "/api/v1/nodes", {"metadata": {"name": "node1"}})
        yield server
        server.kill()


@pytest.fixture
def program(api: ApiServer, tmp_path: Path) -> Iterator[Program]:
    api.node.nft.delete_table()
    made = Program(api.node, api, tmp_path)
    made.start()
    yield made
    if made.process.poll() is None:
        made.end()
    if api.process.poll() is not None:
        api.start()
    made.delete_all()


@contextlib.contextmanager
def stream(node: ServiceNode, cluster_ip: str) -> Iterator[list[str]]:
    """A client that connects again and again meanwhile; yields what did not work."""
    failures: list[str] = []
    counter, stop = itertools.count(), threading.Event()
    answered = [0]

    def connect() -> None:
        while not stop.is_set():
            try:
                ask(cluster_ip, 80)
                answered[0] = next(counter)
            except OSError as error:
                failures.append(repr(error))

    thread = threading.Thread(target=node.inside, args=("client", connect))
    thread.start()
    try:
        eventually(lambda: answered[0] > 20)
        yield failures
        seen = answered[0]
        eventually(lambda: answered[0] > seen + 20 or failures)
    finally:
        stop.set()
        thread.join()


def test_services_are_served_and_changes_followed(program):
    cluster_ip = program.create("web", A, B)
    program.await_targets(cluster_ip, A, B)
    assert sorted(answer[0] for answer in program.node.asks("client", 4, cluster_ip)) == ["a", "a", "b", "b"]
    program.change("web", B, C)
    program.await_targets(cluster_ip, B, C)
    program.delete("web")

    program.await_targets(cluster_ip)


def test_no_connection_fails_while_the_proxy_is_killed_and_restarted(program):
    cluster_ip = program.create("web", A, B, C)
    program.await_targets(cluster_ip, A, B, C)
    with stream(program.node, cluster_ip) as failures:
        for _ in range(3):
            program.restart()

    assert failures == []


def test_a_restarted_proxy_that_finds_everything_right_writes_nothing(program):
    cluster_ip = program.create("web", A, B, C)
    program.await_targets(cluster_ip, A, B, C)

    def restart_writes_nothing() -> bool:
        program.end(signal.SIGTERM)
        generation = program.node.nft.generation()
        program.start()
        program.await_health()
        return program.node.nft.generation() == generation

    # The first one may find that there was something left to clear away.
    assert eventually(restart_writes_nothing)


def await_page(status: int, path: str = "/healthz", port: int = 10256) -> bytes:
    """Ask from where this is called until the answer has this status."""

    def probe() -> bytes | None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENT)
        with contextlib.suppress(OSError):
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            return body if answer.status == status else None
        return None

    return eventually(probe)


def test_health_is_told_over_http(program):
    body = json.loads(program.node.inside("node", lambda: await_page(200)))

    assert body["healthy"] is True
    assert program.node.inside("node", lambda: await_page(200, "/livez"))
    assert program.node.inside("node", lambda: await_page(404, "/"))


def test_connections_are_counted_by_endpoint_as_the_kernel_takes_them(program):
    cluster_ip = program.create("web", A, B)
    program.await_targets(cluster_ip, A, B)
    program.node.asks("client", 6, cluster_ip)
    port = 'ip_family="IPv4",namespace="default",port="http",protocol="TCP",service="web"'
    wanted = {
        f'podwire_endpoint_connections_total{{endpoint="{A}:8080",{port}}} 3.0',
        f'podwire_endpoint_connections_total{{endpoint="{B}:8080",{port}}} 3.0',
        f"podwire_service_connections_total{{{port}}} 6.0",
    }

    def exposed() -> set[str]:
        return set(program.node.inside("node", lambda: await_page(200, "/metrics", 10249)).decode().splitlines())

    # Whose an endpoint is gets known once the round that wrote it has ended.
    assert eventually(lambda: wanted <= exposed())
    assert program.node.inside("node", lambda: await_page(200, "/proxyMode", 10249)) == b"nftables"


def test_killed_at_any_moment_of_a_change_it_converges(program):
    cluster_ips = {name: program.create(name, A, B) for name in ("one", "two", "three")}
    choices = itertools.cycle([(A,), (A, B, C), (B,), (), (B, C), (A, C)])
    for milliseconds in range(0, 16, 2):
        program.await_health()
        for name in cluster_ips:
            program.change(name, *next(choices))
        deadline = time.monotonic() + milliseconds / 1000
        eventually(lambda deadline=deadline: time.monotonic() >= deadline, every=0.0002)
        program.end()
        program.start()
    program.await_health()
    for name in cluster_ips:
        program.change(name, A, C)

    for cluster_ip in cluster_ips.values():
        program.await_targets(cluster_ip, A, C)
        assert sorted(answer[0] for answer in program.node.asks("client", 2, cluster_ip)) == ["a", "c"]


def test_sigterm_ends_it_cleanly_and_leaves_the_table(program):
    cluster_ip = program.create("web", A)
    program.await_targets(cluster_ip, A)

    assert program.end(signal.SIGTERM) == 0
    assert "the table stays" in program.log
    assert program.node.ask("client", cluster_ip).startswith("a ")


# --- without the API server


def test_services_go_on_without_the_api_server_and_are_defended(program):
    cluster_ip = program.create("web", A, B)
    program.await_targets(cluster_ip, A, B)
    program.api.kill()
    program.node.node.run("nft", "flush", "ruleset")

    program.await_targets(cluster_ip, A, B)
    assert program.process.poll() is None


def test_a_proxy_that_never_saw_the_api_leaves_the_table_alone(program):
    cluster_ip = program.create("web", A, B)
    program.await_targets(cluster_ip, A, B)
    program.end()
    program.api.kill()
    generation = program.node.nft.generation()
    program.start()
    eventually(lambda: "cannot be followed" in program.log)
    assert program.node.nft.generation() == generation
    assert program.node.ask("client", cluster_ip)
    program.api.start()
    program.change("web", C)

    program.await_targets(cluster_ip, C)


# --- others


@pytest.mark.parametrize(
    "damage",
    [
        "flush ruleset",
        "delete table ip podwire-proxy",
        "flush map ip podwire-proxy endpoints",
        "delete element ip podwire-proxy services { CLUSTER_IP . tcp . 80 }",
        "flush chain ip podwire-proxy to-endpoint",
        "add rule ip podwire-proxy dispatch drop",
    ],
)
def test_what_others_do_to_the_table_is_repaired_within_a_second(program, damage):
    """A busy machine may take longer: it gets more than one try, which would not help one that waits for something."""
    cluster_ip = program.create("web", A, B)
    program.await_targets(cluster_ip, A, B)

    def seconds_until_repaired() -> float:
        told = len(program.told_of())
        program.node.node.run("nft", damage.replace("CLUSTER_IP", cluster_ip))
        began = time.monotonic()
        eventually(lambda: len(program.told_of()) > told)
        program.await_targets(cluster_ip, A, B)
        eventually(lambda: is_answered(program.node, "client", cluster_ip, 80))
        return time.monotonic() - began

    assert eventually(lambda: seconds_until_repaired() < 1, within=120)


def is_answered(node: ServiceNode, client: str, address: str, port: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(node.ask(client, address, port, timeout=0.2))
    return False


def test_it_says_who_changed_the_table(program):
    """Except for what happens during its own transactions, for which it does not listen: so it may take two."""
    cluster_ip = program.create("web", A)
    program.await_targets(cluster_ip, A)

    def is_named() -> bool:
        program.somebody_changes_the_table()
        return "command=nft" in program.log

    eventually(is_named, every=0.5)


def test_its_own_changes_are_not_taken_for_somebody_elses(program):
    cluster_ip = program.create("web", A, affinity=True)
    program.await_targets(cluster_ip, A)

    def is_told_of_the_other_only() -> bool:
        told = len(program.told_of())
        for endpoints in ((A, B), (A,)):
            program.change("web", *endpoints)
            program.await_targets(cluster_ip, *endpoints)
        # Notices come in the order of the changes: what was wrongly taken for somebody else's comes before this.
        program.somebody_changes_the_table()
        eventually(lambda: len(program.told_of()) > told)
        return ["command=nft" in line for line in program.told_of()[told:]] == [True]

    # Whoever comes during a transaction of the proxy's own is told of without a name.
    assert eventually(is_told_of_the_other_only)


def test_a_second_proxy_does_not_start_beside_the_first(program):
    program.await_health()
    flags = [f"--kubeconfig={program.api.kubeconfig}", "--hostname-override=node1"]
    second = program.node.node.start(sys.executable, "-m", "proxy", *flags, stderr=subprocess.PIPE, text=True)
    _, complaint = second.communicate(timeout=250 * PATIENCE)

    assert second.returncode == 1
    assert complaint == "Error: another podwire-proxy serves this network namespace; end it first\n"


# --- the node


def test_node_ports_follow_the_address_of_the_node(program):
    program.api.request("POST", SERVICES, {"metadata": {"name": "np"}, "spec": NODE_PORT})
    program._ask("POST", SLICES, program._slice("np", (A,)))
    for address in (NODE, GATEWAY):
        program.move_node(address)
        eventually(lambda address=address: f"ip daddr {address} fib" in program.node.node.run("nft", "list", "ruleset"))
        eventually(lambda address=address: is_answered(program.node, "outside", address, 30080))
    with pytest.raises(ConnectionRefusedError):
        program.node.ask("outside", NODE, 30080)


# --- flags


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--kubeconfig=/nonexistent"], "'/nonexistent' does not exist"),
        (["--kubeconfig=/dev/null"], "/dev/null"),
        (["--hostname-override= "], "must name this node"),
        (["--healthz-bind-address=here"], "'here': use ADDRESS:PORT"),
        (["--proxy-mode=ipvs"], "--proxy-mode"),
        (["--nodeport-addresses=primary,192.0.2.0/24"], "nodePortAddresses 'primary': must be a CIDR"),
        (["--detect-local-mode=BridgeInterface"], "detectLocal.bridgeInterface ''"),
    ],
)
def test_bad_flags_are_refused_in_a_clear_line(flags, complaint):
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *flags], capture_output=True, text=True, timeout=250 * PATIENCE
    )

    assert done.returncode != 0
    assert complaint in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
