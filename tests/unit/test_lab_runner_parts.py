"""Images, probes and records of the pod runner."""

import http.server
import os
import threading
from datetime import UTC, datetime

import pytest

from kube.objects import (
    Container,
    ContainerPort,
    EnvSource,
    EnvVar,
    FieldRef,
    HttpGet,
    ObjectMeta,
    Pod,
    PodSpec,
    Probe,
    TcpSocket,
)
from lab import state
from lab.process import Process
from lab.runner import images
from lab.runner.records import Records
from pods import environment, probes, readiness
from pods.record import ContainerRecord, SandboxRecord
from pods.runtime import CannotStart

POD = Pod(metadata=ObjectMeta(name="web-1", namespace="demo", uid="u1"), spec=PodSpec(node_name="node1"))
EVERY_SECOND = Probe(tcp_socket=TcpSocket(port=80), period_seconds=1)


@pytest.mark.parametrize(
    "image",
    ["podwire/echo", "podwire/echo:1.2", "docker.io/podwire/echo", "podwire/echo@sha256:00", "podwire/echo:a@b"],
)
def test_the_labs_own_image_is_known_however_it_is_spelled(image):
    assert images.command(Container(name="c", image=image, args=("9090",)))[-2:][0].endswith("echo.py")


def test_a_command_runs_whatever_the_image_is_called():
    container = Container(name="c", image="busybox", command=("sleep",), args=("1",))

    assert images.command(container) == ("sleep", "1")


def test_a_working_directory_is_entered_first():
    container = Container(name="c", command=("pwd",), working_dir="/tmp")

    assert images.command(container) == ("env", "-C", "/tmp", "pwd")


def test_an_unknown_image_without_a_command_is_refused_by_name():
    with pytest.raises(CannotStart, match="'nginx:latest'"):
        images.command(Container(name="c", image="nginx:latest"))


def test_variables_come_from_the_pod_and_from_its_spec():
    reference = EnvVar(name="WHERE", value_from=EnvSource(field_ref=FieldRef(field_path="status.podIP")))
    container = Container(name="c", env=(EnvVar(name="COLOUR", value="blue"), reference))

    found = environment.variables(POD, container, addresses=("10.244.1.5",), host="172.30.0.11")

    assert (found["COLOUR"], found["WHERE"]) == ("blue", "10.244.1.5")
    assert (found["POD_NAME"], found["POD_NODE"], found["HOSTNAME"]) == ("web-1", "node1", "web-1")


def test_a_container_without_a_probe_is_ready_at_once():
    assert readiness.first(None, 10.0).ready


def test_a_probe_waits_for_its_initial_delay():
    first = readiness.first(Probe(initial_delay_seconds=3), 10.0)

    assert (first.ready, first.next_at) == (False, 13.0)


def test_before_it_was_ever_ready_a_container_is_asked_more_often():
    probe = Probe(period_seconds=10)

    eager = readiness.after(readiness.first(probe, 0.0), probe, failure="refused", now=0.0)
    calm = readiness.after(eager, probe, failure="", now=1.0)

    assert eager.next_at < 1.0
    assert calm.next_at == 11.0


def test_thresholds_decide_when_readiness_changes():
    probe = Probe(period_seconds=1, success_threshold=2, failure_threshold=3)
    found = readiness.first(probe, 0.0)
    said = []
    for failure in ("", "", "no", "no", "no", "", ""):
        found = readiness.after(found, probe, failure=failure, now=0.0)
        said.append(found.ready)

    assert said == [False, True, True, True, False, False, True]


class _Teapot(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({"/well": 204, "/elsewhere": 302}.get(self.path, 503))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def web_server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Teapot) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(("path", "is_ready"), [("/well", True), ("/elsewhere", True), ("/ill", False)])
def test_http_from_200_to_399_is_success(web_server, path, is_ready):
    probe = Probe(http_get=HttpGet(port=web_server, path=path))

    assert (probes.ask(probe, Container(name="c"), "127.0.0.1") == "") == is_ready


def test_a_port_may_be_called_by_its_name(web_server):
    container = Container(name="c", ports=(ContainerPort(name="web", container_port=web_server),))

    assert probes.ask(Probe(tcp_socket=TcpSocket(port="web")), container, "127.0.0.1") == ""
    assert "'admin'" in probes.ask(Probe(tcp_socket=TcpSocket(port="admin")), container, "127.0.0.1")


def test_a_refused_connection_is_a_failure_with_its_reason():
    port = state.free_port(21000)

    assert "refused" in probes.ask(Probe(tcp_socket=TcpSocket(port=port)), Container(name="c"), "127.0.0.1")


def test_a_probe_that_asks_nothing_is_a_failure():
    assert probes.ask(Probe(), Container(name="c"), "127.0.0.1")


def test_a_path_that_no_request_can_carry_is_a_failure_and_not_a_defect(web_server):
    probe = Probe(http_get=HttpGet(port=web_server, path="/grün"))

    assert "ascii" in probes.ask(probe, Container(name="c"), "127.0.0.1")


RECORD = SandboxRecord(
    uid="u1",
    namespace="demo",
    name="web-1",
    sandbox_id="c" * 64,
    netns="pw-lab-node1-web-1",
    boot_id="b",
    made_at=datetime(2026, 3, 1, tzinfo=UTC),
    addresses=("10.244.1.5",),
    containers=(ContainerRecord(name="echo", running=str(Process(pid=7, started=123))),),
)


def test_a_later_runner_reads_what_an_earlier_one_wrote(tmp_path):
    Records(tmp_path).write(RECORD)

    assert list(Records(tmp_path).all()) == [RECORD]


def test_a_damaged_record_does_not_hide_the_others(tmp_path):
    records = Records(tmp_path)
    (tmp_path / "a.json").write_bytes(b"{")
    records.write(RECORD)

    assert list(records.all()) == [RECORD]


def test_a_record_is_found_by_its_pod(tmp_path):
    records = Records(tmp_path)
    records.write(RECORD)

    assert (records.find("u1"), records.find("u2")) == (RECORD, None)


def test_removing_leaves_no_file(tmp_path):
    records = Records(tmp_path)
    records.write(RECORD)
    records.log_file("u1", "echo").write_text("line\n")

    records.remove("u1")
    records.remove_logs("u1")
    records.remove("u1")

    assert os.listdir(tmp_path) == []


def test_a_changed_container_replaces_only_itself():
    two = RECORD.with_container(ContainerRecord(name="side", restarts=1))

    changed = two.with_container(ContainerRecord(name="echo", restarts=4))

    assert (changed.container("echo").restarts, changed.container("side").restarts) == (4, 1)
