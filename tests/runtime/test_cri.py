"""Pods as containers of containerd, made and ended through the CRI as the runner of pods does it.

Address plan: pods 10.244.1.0/24, gateway .1 on the bridge of a namespace that is the node, which is 192.0.2.1 to its
neighbour, 192.0.2.2.
"""

import contextlib
import json
import socket

import pytest

from kube.objects import Container, ContainerPort, ObjectMeta, Pod, PodSpec
from pods import log_files
from pods.cri.client import CriClient, CriError
from pods.cri.configs import Place
from pods.cri.runtime import CriRuntime
from pods.record import ContainerRecord
from pods.runtime import CannotStart, RuntimeFailed
from tests.cni_plugin import PluginNode
from tests.containerd_node import NOTHING, containerd_node, start, write_images
from tests.namespaces import namespace
from tests.waiting import eventually, eventually_equal

HOST = "192.0.2.1"
PORTS = {"capabilities": {"portMappings": True}}
ECHO = Container(name="echo", image="podwire/echo")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One node for all tests here: each leaves it empty."""
    directory = tmp_path_factory.mktemp("ctrd")
    with namespace("node") as home:
        plugin = PluginNode(home, directory, {"isGateway": True, "isDefaultGateway": True} | PORTS)
        images = write_images(directory / "images.tar")
        with containerd_node(plugin, directory, images) as made:
            yield made


@pytest.fixture
def node(shared):
    yield shared
    eventually_equal(shared.left, NOTHING, every=0.1)


@pytest.fixture
def runtime(node, tmp_path):
    made = CriRuntime(CriClient(node.endpoint), place(node, tmp_path), pull=False)
    yield made
    try:
        eventually(lambda: is_emptied(made), every=0.1)
    finally:
        made.close()


def is_emptied(runtime):
    """What fails is tried again, as the worker of a pod does: a container may end by itself while it is being ended."""
    try:
        for record in runtime.left():
            runtime.clear(record.uid)
    except RuntimeFailed:
        return False
    return True


def place(node, logs):
    return Place(node="node1", hosts=(HOST,), logs=logs / "logs", cgroup_parent=node.machine.cgroup)


def a_pod(name, *containers, **spec):
    return Pod(
        metadata=ObjectMeta(name=name, namespace="demo", uid=f"uid-{name}"),
        spec=PodSpec(containers=containers or (ECHO,), node_name="node1", **spec),
    )


def run(runtime, pod):
    """Make a sandbox and start every container once; return the record."""
    record = runtime.make(pod)
    for container in pod.spec.containers:
        running = runtime.start(pod, container, record)
        record = record.with_container(ContainerRecord(name=container.name, running=running))
    return record


def ended(runtime, record, name):
    seen = runtime.look(record)
    return seen is not None and not seen.container(name).running and seen.container(name)


def ask(address, port=8080):
    with socket.create_connection((address, port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
    return json.loads(received.partition(b"\r\n\r\n")[2])


def answers(namespace, address, port=8080):
    def asked():
        try:
            return ask(address, port)
        except OSError:
            return None

    return eventually(lambda: namespace.call(asked), within=60)


def test_a_pod_runs_answers_and_leaves_nothing(runtime, node):
    record = run(runtime, a_pod("web"))

    answer = answers(node.plugin.namespace, record.address)

    assert (answer["pod"], answer["namespace"], answer["node"]) == ("web", "demo", "node1")
    assert list(node.plugin.leased().values()) == [record.address]
    runtime.remove(record)
    eventually_equal(node.left, NOTHING, every=0.1)


def test_two_containers_talk(runtime, node):
    server = run(runtime, a_pod("server"))
    answers(node.plugin.namespace, server.address)
    asking = Container(name="ask", image="podwire/echo", command=("wget", "-qO-", f"http://{server.address}:8080"))
    client = run(runtime, a_pod("client", asking, restart_policy="Never"))

    assert eventually(lambda: ended(runtime, client, "ask")).exit_code == 0
    eventually(lambda: f'"client": "{client.address}:' in log(runtime, "uid-client", "ask"))


def log(runtime, uid, container):
    """The runtime may write the last line after it has said that the container ended."""
    return runtime._place.log_file(uid, container).read_text()


def test_containers_of_a_pod_share_its_network(runtime, node):
    asking = Container(
        name="ask",
        image="podwire/echo",
        command=("sh", "-c", "until wget -qO- http://127.0.0.1:8080; do sleep 0.1; done"),
    )
    record = run(runtime, a_pod("both", ECHO, asking))

    assert eventually(lambda: ended(runtime, record, "ask")).exit_code == 0


def test_a_hostport_leads_into_the_container_from_outside_the_node(runtime, node, make_namespace):
    outside = make_namespace("outside")
    node.plugin.namespace.run("ip", "link", "add", "out", "type", "veth", "peer", "eth0", "netns", outside.name)
    node.plugin.namespace.run("ip", "address", "add", f"{HOST}/24", "dev", "out")
    node.plugin.namespace.run("ip", "link", "set", "out", "up")
    outside.run("ip", "address", "add", "192.0.2.2/24", "dev", "eth0")
    outside.run("ip", "link", "set", "eth0", "up")
    port = ContainerPort(container_port=8080, host_port=9090)
    record = run(runtime, a_pod("web", Container(name="echo", image="podwire/echo", ports=(port,))))

    answer = answers(outside, HOST, 9090)

    assert (answer["pod"], answer["client"].partition(":")[0]) == ("web", "192.0.2.2")
    runtime.remove(record)
    with pytest.raises(OSError):
        outside.call(lambda: ask(HOST, 9090))


def test_a_pod_on_the_nodes_network_has_the_nodes_address(runtime, node):
    record = run(runtime, a_pod("host", host_network=True))

    assert record.addresses == (HOST,)
    assert answers(node.plugin.namespace, "127.0.0.1")["pod"] == "host"


def test_a_command_that_fails_tells_its_exit_code_and_its_words(runtime):
    failing = Container(name="main", image="podwire/echo", command=("sh", "-c", "echo why; exit 3"))
    record = run(runtime, a_pod("job", failing))

    found = eventually(lambda: ended(runtime, record, "main"))

    assert found.exit_code == 3
    eventually(lambda: log(runtime, "uid-job", "main").endswith("stdout F why\n"))


def test_a_command_that_is_not_in_the_image_says_so(runtime):
    absent = Container(name="main", image="podwire/echo", command=("/no/such/program",))

    with pytest.raises(CannotStart, match=r"RunContainerError.*no such file"):
        run(runtime, a_pod("odd", absent))
    with pytest.raises(CannotStart, match="RunContainerError"):
        runtime.start(a_pod("odd", absent), absent, next(iter(runtime.left())))


def test_an_image_that_is_not_there_is_named(runtime):
    with pytest.raises(CannotStart, match=r"ErrImageNeverPull.*'nginx:1\.27'"):
        run(runtime, a_pod("web", Container(name="main", image="nginx:1.27")))


def test_a_later_runner_finds_what_runs_and_how_often_it_was_started(runtime, node, tmp_path):
    pod = a_pod("web")
    record = run(runtime, pod)
    runtime._client.stop_container(record.container("echo").running, grace=0)
    again = ContainerRecord(name="echo", restarts=1)
    second = runtime.start(pod, ECHO, record.with_container(again))
    later = CriRuntime(CriClient(node.endpoint), place(node, tmp_path), pull=False)

    (found,) = later.left()

    assert (found.sandbox_id, found.addresses, found.released) == (record.sandbox_id, record.addresses, False)
    container = found.container("echo")
    assert (container.running, container.restarts, container.exit_code) == (second, 1, 137)
    assert later.start(pod, ECHO, found) == second
    later.close()


def test_who_started_a_container_and_who_found_it_say_the_same_of_it(runtime, node, tmp_path):
    started = runtime.look(run(runtime, a_pod("web")))

    with contextlib.closing(CriRuntime(CriClient(node.endpoint), place(node, tmp_path), pull=False)) as later:
        assert list(later.left()) == [started]


def test_another_nodes_pods_are_not_ours(runtime, node, tmp_path):
    run(runtime, a_pod("web"))
    other = Place(node="node2", hosts=(HOST,), logs=tmp_path, cgroup_parent="/")
    stranger = CriRuntime(CriClient(node.endpoint), other, pull=False)

    assert list(stranger.left()) == []
    stranger.close()


def test_an_asked_container_ends_by_itself_and_its_pod_is_woken(runtime, node):
    woken = []
    record = run(runtime, a_pod("web"))
    answers(node.plugin.namespace, record.address)
    runtime.follow(woken.append)

    runtime.ask_to_end(record, 60.0)

    assert eventually(lambda: ended(runtime, record, "echo")).exit_code == 0
    eventually(lambda: "uid-web" in woken)


def test_a_command_beside_a_container_is_a_probe(runtime):
    record = run(runtime, a_pod("web"))

    assert runtime.probe(("true",), record, "echo", seconds=60) == ""
    assert "exit status 1" in runtime.probe(("false",), record, "echo", seconds=60)
    assert "Readiness probe failed" in runtime.probe(("sleep", "60"), record, "echo", seconds=1)


def test_a_long_log_is_moved_away_and_the_container_writes_on(runtime):
    """In long lines: the runtime reads and writes them one by one."""
    script = f"yes {'0' * 4000} | head -c 11000000; until [ -e /go ]; do sleep 0.1; done; echo after"
    record = run(runtime, a_pod("talker", Container(name="main", image="podwire/echo", command=("sh", "-c", script))))
    path = runtime._place.log_file("uid-talker", "main")
    eventually(lambda: path.exists() and log_files.is_long(path), every=0.05)

    runtime.trim_logs()
    assert runtime.probe(("touch", "/go"), record, "main", seconds=60) == ""

    eventually(lambda: path.exists() and path.read_text().endswith("stdout F after\n"))
    assert log_files.predecessor(path).stat().st_size > log_files.LARGEST


def test_a_sandbox_that_died_is_lost(runtime, node):
    record = run(runtime, a_pod("web"))

    node.ctr("tasks", "kill", "--signal", "SIGKILL", record.sandbox_id)

    eventually(lambda: runtime.look(record) is None)


def test_a_pod_made_again_takes_the_place_of_what_a_killed_runner_left(runtime, node):
    first = run(runtime, a_pod("web"))

    second = run(runtime, a_pod("web"))

    assert second.sandbox_id != first.sandbox_id
    assert list(node.plugin.leased().values()) == [second.address]


def test_containers_outlive_their_daemon(runtime, node):
    record = runtime.look(run(runtime, a_pod("web")))
    answers(node.plugin.namespace, record.address)

    node.machine.run("pkill", "-KILL", "-x", "containerd")
    node.daemons[-1].wait(60)
    with pytest.raises(CriError, match="UNAVAILABLE"):
        runtime.look(record)
    start(node)

    def found():
        # Our connection may be made anew a moment after the one by which the daemon was seen to answer.
        with contextlib.suppress(CriError):
            return runtime.look(record)
        return None

    assert eventually(found) == record
    assert answers(node.plugin.namespace, record.address)["pod"] == "web"
