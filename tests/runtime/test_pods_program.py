"""podwire-pods between a real API server and a real containerd: pods come, live, fail and go; the program dies.

Address plan: the API server, the runner and containerd share the namespace that is the node; pods 10.244.1.0/24.
"""

import itertools
import json
import subprocess
import sys

import pytest

from tests.api_server import ApiServer
from tests.cni_plugin import PluginNode
from tests.containerd_node import NOTHING, ContainerdNode, containerd_node, write_images
from tests.lab.cluster import command_pod, echo_pod, is_ready, kill
from tests.namespaces import namespace
from tests.waiting import eventually, eventually_equal

PROGRAM = (sys.executable, "-m", "pods")
SPACE = "default"


class Cluster:
    """One node with its API server; the runner is started and killed by the tests."""

    def __init__(self, node: ContainerdNode, api: ApiServer) -> None:
        self.node, self.api = node, api
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        argv = (
            *PROGRAM,
            *("--kubeconfig", str(self.api.kubeconfig), "--node-name", "node1", "--no-pull"),
            *("--runtime-endpoint", self.node.endpoint, "--cgroup-parent", self.node.machine.cgroup),
            *("--log-dir", str(self.node.directory / "logs")),
        )
        with (self.node.directory / "pods.log").open("ab") as log:
            self.process = self.node.plugin.namespace.start(*argv, stdout=log, stderr=log)

    def end(self) -> int:
        """SIGTERM; return how it ended."""
        self.process.terminate()
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        kill(self.process.pid)
        self.process.wait()

    def apply(self, *pods: dict) -> None:
        for pod in pods:
            answer = self.api.request("POST", f"/api/v1/namespaces/{SPACE}/pods", pod)
            assert answer.status == 201, answer.data

    def pods(self) -> dict[str, dict]:
        items = json.loads(self.api.request("GET", f"/api/v1/namespaces/{SPACE}/pods").data)["items"]
        return {pod["metadata"]["name"]: pod for pod in items}

    def status(self, name: str) -> dict:
        return self.pods()[name]["status"]

    def container(self, name: str) -> dict:
        return self.status(name).get("containerStatuses", [{}])[0]

    def delete(self, name: str, grace: int | None = None) -> None:
        options = {} if grace is None else {"gracePeriodSeconds": grace}
        self.api.request("DELETE", f"/api/v1/namespaces/{SPACE}/pods/{name}", options)

    def await_ready(self, count: int) -> dict[str, dict]:
        def complete():
            found = self.pods()
            return found if len(found) == count and all(map(is_ready, found.values())) else None

        return eventually(complete, within=60, every=0.1)

    def await_gone(self) -> None:
        def left():
            self.node.collect()
            return {"pods": self.pods()} | self.node.left()

        eventually_equal(left, {"pods": {}} | NOTHING, within=60, every=0.2)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pods")
    with namespace("node") as home:
        home.run("ip", "link", "set", "lo", "up")
        plugin = PluginNode(home, directory, {"isGateway": True, "isDefaultGateway": True})
        api = ApiServer(home=home, directory=directory / "api")
        images = write_images(directory / "images.tar")
        try:
            api.start()
            node = {
                "metadata": {"name": "node1"},
                "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
            }
            assert api.request("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node"} | node).status == 201
            with containerd_node(plugin, directory, images) as made:
                yield Cluster(made, api)
        finally:
            api.kill()


@pytest.fixture
def cluster(shared):
    shared.start()
    try:
        yield shared
        if shared.process.poll() is not None:
            shared.start()  # a test that failed may have left none
        for name in shared.pods():
            shared.delete(name, grace=0)
        shared.await_gone()
    finally:
        ended = shared.end()
    assert ended == 0


def a_pod(name: str, **spec) -> dict:
    return echo_pod(name, SPACE, node="node1", **spec)


def a_job(name: str, *command: str, **spec) -> dict:
    return command_pod(name, SPACE, *command, image="podwire/echo", **spec)


def test_a_pod_becomes_ready_says_where_it_is_and_ends_in_grace(cluster):
    cluster.apply(a_pod("web"))
    status = cluster.await_ready(1)["web"]["status"]
    assert (status["phase"], status["podIPs"], status["hostIP"]) == ("Running", [{"ip": status["podIP"]}], "192.0.2.1")
    assert list(cluster.node.plugin.leased().values()) == [status["podIP"]]

    cluster.delete("web")

    cluster.await_gone()


def test_a_runner_killed_mid_way_leaves_no_pod_twice_and_none_behind(cluster):
    cluster.apply(*(a_pod(f"burst-{number}") for number in range(4)))
    for leases in (1, 3):
        eventually(lambda leases=leases: len(cluster.node.plugin.leased()) >= leases, within=60)
        cluster.kill()
        cluster.start()

    told = {pod["status"]["podIP"] for pod in cluster.await_ready(4).values()}

    def books():
        cluster.node.collect()
        left = cluster.node.left()
        return set(left["leases"].values()), *(len(left[kind]) for kind in ("leases", "veths", "namespaces", "tasks"))

    # A pod is two tasks: its sandbox and its container.
    eventually_equal(books, (told, 4, 4, 4, 8), every=0.2)
    assert {pod["status"]["podIP"] for pod in cluster.pods().values()} == told


def test_a_killed_runner_is_not_noticed_by_pods_that_run(cluster):
    cluster.apply(a_pod("web"))
    before = cluster.await_ready(1)["web"]["status"]
    tasks = cluster.node.left()["tasks"]

    cluster.kill()
    cluster.start()
    cluster.apply(a_pod("later"))
    after = cluster.await_ready(2)["web"]["status"]

    assert (after["podIP"], after["conditions"]) == (before["podIP"], before["conditions"])
    assert after["containerStatuses"] == before["containerStatuses"]
    assert set(tasks) <= set(cluster.node.left()["tasks"])


def test_a_pod_deleted_while_the_runner_is_dead_is_removed_by_its_successor(cluster):
    cluster.apply(a_pod("web"))
    cluster.await_ready(1)
    cluster.kill()
    cluster.delete("web", grace=0)

    cluster.start()

    cluster.await_gone()


def test_a_container_that_crashes_is_started_again_in_the_same_sandbox(cluster):
    cluster.apply(a_pod("web"))
    address = cluster.await_ready(1)["web"]["status"]["podIP"]
    running = cluster.node.machine.run("sh", "-c", "pidof python3.11 || pidof python3").split()

    cluster.node.machine.run("kill", "-KILL", *running)

    eventually(lambda: cluster.container("web").get("restartCount") == 1, every=0.1)
    assert cluster.await_ready(1)["web"]["status"]["podIP"] == address
    assert cluster.container("web")["lastState"]["terminated"]["exitCode"] == 137


def test_a_job_that_fails_has_failed_and_gives_its_address_back(cluster):
    cluster.apply(a_job("job", "sh", "-c", "exit 3"))

    eventually(lambda: cluster.status("job").get("phase") == "Failed", every=0.1)

    assert cluster.container("job")["state"]["terminated"]["exitCode"] == 3
    eventually(lambda: cluster.node.plugin.leased() == {}, every=0.1)


@pytest.mark.parametrize(
    ("container", "reason", "words"),
    [
        ({"image": "nginx:1.27"}, "ErrImageNeverPull", "images import"),
        ({"image": "podwire/echo", "command": ["/no/such/program"]}, "RunContainerError", "no such file"),
    ],
    ids=["missing image", "missing program"],
)
def test_a_container_that_cannot_start_says_why_until_its_pod_is_deleted(cluster, container, reason, words):
    cluster.apply(a_pod("odd", containers=[{"name": "main", **container}]))

    def why():
        waiting = cluster.container("odd").get("state", {}).get("waiting", {})
        return waiting.get("reason") == reason and waiting["message"]

    assert words in eventually(why, every=0.1)


def test_an_exec_probe_decides_whether_a_pod_is_ready(cluster):
    look = "echo asked >> /tmp/asked; test -e /tmp/ready"
    probe = {"exec": {"command": ["sh", "-c", look]}, "periodSeconds": 1, "timeoutSeconds": 60}
    container = {"name": "main", "image": "podwire/echo", "command": ["sleep", "600"], "readinessProbe": probe}
    cluster.apply(a_pod("slow", containers=[container]))
    eventually(lambda: cluster.container("slow").get("started"), every=0.05)
    only = 'labels."io.cri-containerd.kind"==container'
    (started,) = cluster.node.ctr("containers", "list", "--quiet", only).split()

    def run(name: str, *command: str) -> str:
        return cluster.node.ctr("tasks", "exec", "--exec-id", name, started, *command)

    numbers = itertools.count()
    eventually(lambda: run(f"look-{next(numbers)}", "sh", "-c", "cat /tmp/asked || true").count("asked") >= 2)
    assert not cluster.container("slow")["ready"]
    run("permit", "touch", "/tmp/ready")

    cluster.await_ready(1)
