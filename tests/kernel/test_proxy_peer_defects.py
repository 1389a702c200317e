"""What the peer's nftables mode is known to do wrong at scale and over time, and podwire does not.

The other defects of that list have their tests where they belong; docs/service-semantics.md names all of them. The node and
its pods are those of tests/service_node.py.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dataplane import atomic_file
from dataplane.nft.linux import LinuxNft
from tests import service_node
from tests.api_server import ApiServer
from tests.service_node import PODS, ServiceNode, ask_udp
from tests.services import endpoint, endpoint_slice, named, service
from tests.waiting import PATIENCE, eventually

A, B, C = PODS["a"], PODS["b"], PODS["c"]
WEB, DNS = "10.96.0.10", "10.96.0.53"


@pytest.fixture(scope="module")
def shared() -> Iterator[ServiceNode]:
    with service_node.service_node() as made:
        yield made


@pytest.fixture
def node(shared: ServiceNode) -> Iterator[ServiceNode]:
    yield shared
    shared.clear()


# --- UDP flows to endpoints that are gone, when nobody else comes


def dns(*endpoints: str) -> tuple:
    made = service("dns", DNS, ports=[(53, "dns", "UDP")])
    return made, endpoint_slice("dns", endpoints, ports=[(8080, "dns", "UDP")])


@pytest.mark.parametrize("end", ["the last endpoint goes", "the Service is deleted"])
def test_a_sender_that_never_listens_does_not_keep_its_flow_to_who_is_gone(node, end):
    """kube-proxy 1.32 to 1.36 leaves such flows alone when a Service has no endpoint left: seen for 13 hours."""
    node.put(*dns(A))
    with node.udp_socket("client") as opened:
        ask_udp(opened, DNS, 53)
        assert f"src={A}" in node.node.run("conntrack", "-L", "-p", "udp", "-d", DNS)
        if end == "the last endpoint goes":
            node.put(*dns())
        else:
            node.sync(node.world.remove(named("dns")))

        def is_forgotten() -> bool:
            node.flows.run_due()
            opened.sendto(b"one way", (DNS, 53))
            return f"src={A}" not in node.node.run("conntrack", "-L", "-p", "udp", "-d", DNS)

        assert eventually(is_forgotten)


# --- names


def test_the_longest_names_there_can_be_stop_nobody(node):
    """kube-proxy: a comment beyond 128 bytes refuses the whole transaction, for all Services of the cluster."""
    namespace, name, port = "n" * 63, "s" * 63, "p" * 63
    made = service(name, "10.96.0.77", ports=[(80, port)])
    long = msgspec.structs.replace(made, metadata=msgspec.structs.replace(made.metadata, namespace=namespace))
    # Both in one round: what refuses one would refuse the other.
    node.sync(node.world.put(long), node.world.put(service("web", WEB), endpoint_slice("web", [A])))

    assert node.ask("client", WEB).startswith("a ")
    with pytest.raises(ConnectionRefusedError):
        node.ask("client", "10.96.0.77")
    node.node.run("nft", "-c", "-f", "-", stdin=node.node.run("nft", "list", "ruleset"))


# --- cost


def test_the_number_of_sets_does_not_grow_with_services(node):
    """kube-proxy has an anonymous map for each Service; the kernel looks sets up one by one."""

    def sets() -> int:
        listed = node.node.run("nft", "-a", "list", "table", *str(node.nft.table).split())
        anonymous = listed.count("map { ") + listed.count("vmap { ")
        return anonymous + sum(line.startswith(("\tmap ", "\tset ")) for line in listed.splitlines())

    node.put(service("web", WEB, affinity=60), endpoint_slice("web", [A, B]))
    few = sets()
    for index in range(200):
        name = f"svc{index}"
        node.world.put(
            service(name, f"10.96.1.{index}", affinity=60 if index % 2 else None, external_ips=(f"203.0.113.{index}",)),
            endpoint_slice(name, [A, B, C][: 1 + index % 3]),
        )
    node.sync(*node.world.names())

    assert sets() == few


class CountingNft(LinuxNft):
    """The kernel's table; remembers which collections were read back."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.dumps: list[str] = []

    def chains(self):
        self.dumps.append("chains")
        return super().chains()

    def all_rules(self):
        self.dumps.append("rules")
        return super().all_rules()

    def elements(self, set_name):
        self.dumps.append(set_name)
        return super().elements(set_name)

    def list_ruleset(self):
        self.dumps.append("text")
        return super().list_ruleset()


def test_a_change_reads_nothing_back(node):
    """kube-proxy lists its whole table before each sync: 40 seconds at 44,000 Services."""
    usual = node.nft
    with CountingNft(usual.table, netns_fd=node._netns) as counting:
        node.nft = counting
        try:
            node.restart()
            assert counting.dumps  # a start reads it once
            counting.dumps.clear()
            for endpoints in ([A], [A, B], [B, C], [endpoint(C, ready=False)], [A]):
                node.put(service("web", WEB), endpoint_slice("web", endpoints))
            node.sync(node.world.remove(named("web")))
            node.sweep()

            assert counting.dumps == []
        finally:
            node.nft = usual
            node.restart()


# --- configuration


CONFIGURATION = """apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: {kubeconfig}}}
hostnameOverride: node1
healthzBindAddress: ""
metricsBindAddress: ""
"""


def test_a_configuration_file_that_changes_ends_nothing(node, tmp_path: Path):
    """kube-proxy ends when its file changes, whatever it says then."""
    api = ApiServer(home=node.node, directory=tmp_path / "data")
    api.start()
    file, log = tmp_path / "config.yaml", tmp_path / "proxy.log"
    file.write_text(CONFIGURATION.format(kubeconfig=api.kubeconfig))
    node.nft.delete_table()
    with log.open("ab") as opened:
        process = node.node.start(sys.executable, "-m", "proxy", f"--config={file}", stderr=opened)
    try:
        eventually(node.nft.table_exists)
        changed = CONFIGURATION.format(kubeconfig=api.kubeconfig) + "nftables: {masqueradeAll: true}\n"
        for text, answer in ((changed, "beginning anew with it"), ("garbage", "to what cannot be")):
            atomic_file.write(file, text.encode(), durable=False)
            eventually(lambda answer=answer: answer in log.read_text())
        file.unlink()
        body = {"metadata": {"name": "later"}, "spec": {"ports": [{"port": 80}]}}
        api.request("POST", "/api/v1/namespaces/default/services", body)
        eventually(lambda: "default/later" in node.node.run("nft", "list", "ruleset"), every=0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30 * PATIENCE) == 0
    finally:
        _end(process)
        api.kill()
        node.restart()


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
