"""What the proxy's process does once: take its tables away, set conntrack, read its configuration. In namespaces."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane import atomic_file
from proxy.conntrack_sysctls import HASH_SIZE
from tests.namespaces import Namespace
from tests.waiting import PATIENCE, eventually

FOREIGN = "table ip kube-proxy { chain services { }; }\ntable ip podwire-node { set pods { type ipv4_addr; }; }\n"
OURS = "table ip podwire-proxy { chain svc-a { }; }\ntable ip6 podwire-proxy { chain svc-b { }; }\n"
MEANWHILE = "table ip podwire-proxy-stand-in { chain svc-a { }; }\ntable ip podwire-proxy-resets { }\n"
CONFIGURATION = """apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
hostnameOverride: node1
metricsBindAddress: ""
conntrack: {tcpCloseWaitTimeout: 59s, udpTimeout: 31s, tcpBeLiberal: true}
"""
KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:9"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: c
"""


@pytest.fixture
def node(make_namespace) -> Namespace:
    return make_namespace("node")


def run(node: Namespace, *flags: str) -> subprocess.CompletedProcess:
    argv = node.argv(sys.executable, "-m", "proxy", *flags)
    return subprocess.run(argv, capture_output=True, text=True, timeout=250 * PATIENCE)


def tables(node: Namespace) -> str:
    return node.run("nft", "list", "tables")


def test_cleanup_removes_the_proxys_tables_and_says_so(node):
    node.run("nft", "-f", "-", stdin=OURS + MEANWHILE)
    done = run(node, "--cleanup")

    assert (done.returncode, tables(node)) == (0, "")
    assert done.stdout.splitlines() == [
        "removed table ip podwire-proxy",
        "removed table ip podwire-proxy-stand-in",
        "removed table ip podwire-proxy-resets",
        "removed table ip6 podwire-proxy",
    ]


def test_cleanup_leaves_all_other_tables(node):
    node.run("nft", "-f", "-", stdin=FOREIGN)
    before = node.run("nft", "list", "ruleset")
    node.run("nft", "-f", "-", stdin=OURS)
    run(node, "--cleanup")

    assert node.run("nft", "list", "ruleset") == before


def test_cleanup_of_nothing_is_success(node):
    done = run(node, "--cleanup")

    assert (done.returncode, done.stdout) == (0, "nothing to remove\n")


@pytest.fixture
def started(node, tmp_path):
    """The proxy's process with flags, without an API server; ended at the end."""
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    processes = []

    def start(*flags: str) -> Path:
        log = tmp_path / "proxy.log"
        argv = (sys.executable, "-m", "proxy", *flags)
        with log.open("wb") as file:
            processes.append(node.start(*argv, stderr=file))
        eventually(lambda: "proxy started" in log.read_text() or processes[-1].poll() is not None)
        return log

    yield start
    for process in processes:
        process.send_signal(signal.SIGTERM)
        process.wait(30 * PATIENCE)


def setting(node: Namespace, name: str) -> str:
    return node.run("sysctl", "-n", f"net.netfilter.nf_conntrack_{name}").strip()


def test_cleanup_waits_for_the_end_of_the_proxy_that_runs(node, started, tmp_path):
    started(f"--kubeconfig={tmp_path}/kubeconfig")
    node.run("nft", "-f", "-", stdin=OURS)
    done = run(node, "--cleanup")

    assert done.returncode == 1
    assert "another podwire-proxy serves this network namespace; end it first" in done.stderr
    assert "ip podwire-proxy" in tables(node)


def test_init_only_sets_conntrack_and_ends(node):
    done = run(node, "--init-only", "--conntrack-udp-timeout=37s")

    assert (done.returncode, setting(node, "udp_timeout"), tables(node)) == (0, "37", "")


def test_another_configuration_takes_effect_and_a_wrong_one_changes_nothing(node, started, tmp_path):
    file, log = tmp_path / "config.yaml", tmp_path / "proxy.log"
    given = CONFIGURATION + f"clientConnection: {{kubeconfig: {tmp_path}/kubeconfig}}\n"
    file.write_text(given)
    started(f"--config={file}")
    for wrong in (given.replace("59s", "soon"), given.replace("/kubeconfig", "/nowhere"), "garbage: ["):
        log_before = log.read_text().count("to what cannot be")
        atomic_file.write(file, wrong.encode(), durable=False)
        eventually(lambda before=log_before: log.read_text().count("to what cannot be") == before + 1)
    assert setting(node, "tcp_timeout_close_wait") == "59"
    atomic_file.write(file, given.replace("59s", "58s").encode(), durable=False)
    eventually(lambda: log.read_text().count('event="proxy started"') == 2)

    assert setting(node, "tcp_timeout_close_wait") == "58"
    assert "Traceback" not in log.read_text()


def test_the_file_configures_it_and_what_it_ignores_is_logged(node, started, tmp_path):
    (tmp_path / "config.yaml").write_text(
        f"{CONFIGURATION}clientConnection: {{kubeconfig: {tmp_path}/kubeconfig}}\nipvs: {{strictARP: true}}\n"
    )
    log = started(f"--config={tmp_path}/config.yaml", "--metrics-bind-address=here").read_text()

    assert "field=mode" in log
    assert "field=ipvs.strictARP" in log
    assert "field=--metrics-bind-address" in log
    assert "node=node1" in log
    assert ":10249" not in node.run("ss", "-ltn")
    assert [setting(node, name) for name in ("tcp_timeout_close_wait", "udp_timeout", "tcp_be_liberal")] == [
        "59",
        "31",
        "1",
    ]


def test_the_size_of_the_table_is_the_first_namespaces_to_set(node, started, tmp_path):
    before = HASH_SIZE.read_text()
    log = started(
        f"--kubeconfig={tmp_path}/kubeconfig", "--conntrack-min=1048570", "--conntrack-udp-timeout=33s"
    ).read_text()

    assert "a conntrack setting stays as it is" in log
    assert HASH_SIZE.read_text() == before
    assert setting(node, "udp_timeout") == "33"


def test_a_bad_file_ends_it_with_one_clear_line(node, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIGURATION.replace("31s", "31"))
    done = run(node, f"--config={tmp_path}/config.yaml")

    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {tmp_path}/config.yaml: conntrack.udpTimeout 31: use a duration such as 30s, 5m or 24h\n"
    )


def test_a_taken_address_ends_it_when_told_so(node, tmp_path):
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    holder = node.start(
        sys.executable, "-c", "import socket,time;s=socket.create_server(('0.0.0.0',10256));time.sleep(600)"
    )
    eventually(lambda: ":10256" in node.run("ss", "-ltn"))
    done = run(node, f"--kubeconfig={tmp_path}/kubeconfig", "--bind-address-hard-fail")
    holder.kill()
    holder.wait()

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: --bind-address-hard-fail: healthz on 0.0.0.0:10256: ")
