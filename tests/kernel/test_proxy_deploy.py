"""The files in deploy/: that they fit the proxy there is, its flags, its probes and every request it makes of the API."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from proxy.__main__ import main
from tests.kube_server import KubeServer, service
from tests.namespaces import Namespace
from tests.waiting import PATIENCE, eventually

DEPLOY = Path(__file__).parents[2] / "deploy"
ALLOWED = {
    ("list", "", "services"),
    ("watch", "", "services"),
    ("list", "", "nodes"),
    ("watch", "", "nodes"),
    ("list", "discovery.k8s.io", "endpointslices"),
    ("watch", "discovery.k8s.io", "endpointslices"),
    ("list", "networking.k8s.io", "servicecidrs"),
    ("watch", "networking.k8s.io", "servicecidrs"),
    ("create", "", "events"),
}
CAPABILITIES = "-all,+net_admin,+net_raw,+sys_resource"
KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "{url}"}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{token: t}}}}]
current-context: c
"""


def documents(name: str) -> dict[str, dict]:
    """The objects of a manifest by kind."""
    found = [msgspec.yaml.decode(text) for text in (DEPLOY / name).read_bytes().split(b"\n---\n")]
    return {document["kind"]: document for document in found}


def permissions() -> set[tuple[str, str, str]]:
    return {
        (verb, group, resource)
        for rule in documents("proxy-rbac.yaml")["ClusterRole"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def container() -> dict:
    (only,) = documents("proxy-daemonset.yaml")["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    return only


def request(method: str, path: str, query: dict[str, str]) -> tuple[str, str, str]:
    """A request as RBAC sees it: verb, API group, resource."""
    parts = path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    if rest[0] == "namespaces" and len(rest) > 2:
        rest = rest[2:]
    of_get = "watch" if "watch" in query else "list" if len(rest) == 1 else "get"
    verbs = {"GET": of_get, "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
    return verbs[method], group, "/".join(rest[:1] + rest[2:])


@pytest.fixture
def server(make_namespace, tmp_path) -> Iterator[tuple[Namespace, KubeServer]]:
    node = make_namespace("node")
    made = node.call(KubeServer)
    made.put(service("good", clusterIP="10.96.0.10", ports=[{"port": 80}]))
    made.put(service("bad", clusterIP="nonsense", ports=[{"port": 80}]))
    (tmp_path / "kubeconfig").write_text(KUBECONFIG.format(url=made.url))
    yield node, made
    made.stop()


@pytest.fixture
def started(server, tmp_path) -> Iterator[KubeServer]:
    """The proxy's process, with the capabilities deploy/ gives it, after it has told of a bad Service."""
    node, made = server
    argv = (
        "setpriv",
        "--bounding-set",
        CAPABILITIES,
        sys.executable,
        "-m",
        "proxy",
        "-v4",
        "--hostname-override=node1",
    )
    with (tmp_path / "log").open("wb") as log:
        process = node.start(*argv, f"--kubeconfig={tmp_path}/kubeconfig", stderr=log)
    eventually(lambda: b"InvalidService" in b"".join(body for *_, body in list(made.requests)))
    eventually(lambda: "podwire-proxy" in node.run("nft", "list", "tables"))
    yield made
    process.send_signal(signal.SIGTERM)
    process.wait(30 * PATIENCE)


def test_every_request_of_the_proxy_is_allowed_by_its_role(started):
    def made() -> set[tuple[str, str, str]]:
        return {request(method, path, query) for method, path, query, *_ in list(started.requests)}

    # All that it ever asks for.
    eventually(lambda: made() >= permissions())

    assert made() - permissions() == set()


def test_the_role_allows_nothing_else():
    assert permissions() == ALLOWED


def test_the_role_is_bound_to_the_account_the_daemonset_runs_as():
    rbac, pod = documents("proxy-rbac.yaml"), documents("proxy-daemonset.yaml")["DaemonSet"]["spec"]["template"]["spec"]
    binding = rbac["ClusterRoleBinding"]

    assert binding["roleRef"]["name"] == rbac["ClusterRole"]["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", **rbac["ServiceAccount"]["metadata"]}]
    assert pod["serviceAccountName"] == rbac["ServiceAccount"]["metadata"]["name"]


def test_the_daemonset_selects_its_own_pods_and_runs_on_the_nodes_network():
    spec = documents("proxy-daemonset.yaml")["DaemonSet"]["spec"]

    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert spec["template"]["spec"]["hostNetwork"] is True
    assert spec["template"]["spec"]["tolerations"] == [{"operator": "Exists"}]


def test_the_flags_of_the_daemonset_exist(tmp_path):
    done = CliRunner().invoke(main, [*container()["args"], f"--write-config-to={tmp_path}/written"])

    assert (done.exit_code, done.output) == (0, "")


def test_the_address_of_the_api_server_is_not_the_one_the_proxy_serves():
    environment = {entry["name"]: entry["valueFrom"] for entry in container()["env"]}
    settings = documents("proxy-daemonset.yaml")["ConfigMap"]

    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        reference = environment[name]["configMapKeyRef"]
        assert reference["name"] == settings["metadata"]["name"]
        assert settings["data"][reference["key"]]


@pytest.mark.parametrize("probe", ["livenessProbe", "readinessProbe"])
def test_the_probes_ask_what_the_proxy_answers(probe, started, server):
    asked = container()[probe]["httpGet"]
    url = f"http://127.0.0.1:{asked['port']}{asked['path']}"

    assert eventually(lambda: server[0].run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url) == "200")


def test_the_flags_of_the_systemd_unit_exist(tmp_path):
    lines = (DEPLOY / "systemd/podwire-proxy.service").read_text().splitlines()
    (command,) = (line.removeprefix("ExecStart=").split() for line in lines if line.startswith("ExecStart="))
    (tmp_path / "kubeconfig").write_text(KUBECONFIG.format(url="http://127.0.0.1:9"))
    flags = [
        flag.replace("/etc/podwire/kubeconfig", f"{tmp_path}/kubeconfig") for flag in command[1:] if flag != "$OPTIONS"
    ]
    done = CliRunner().invoke(main, [*flags, f"--write-config-to={tmp_path}/written"])

    assert (done.exit_code, done.output) == (0, "")


def test_the_systemd_unit_gives_the_capabilities_the_proxy_was_tried_with():
    unit = (DEPLOY / "systemd/podwire-proxy.service").read_text()
    given = unit.partition("CapabilityBoundingSet=")[2].splitlines()[0].lower().split()

    assert {f"+{name.removeprefix('cap_')}" for name in given} == set(CAPABILITIES.split(",")[1:])
