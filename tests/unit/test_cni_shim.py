"""The executable itself, between a runtime's environment and an agent that answers, refuses, hangs up or is absent."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cni import install, shim, wire
from tests.cni_node import environment, netconf

ANSWER = b'{"cniVersion": "1.0.0", "ips": []}\n'
PYTHON = Path(sys.prefix) / "bin" / "python"


class Agent:
    """Listens where the shim looks, and serves connections with `serve`."""

    def __init__(self, path: Path, serve: Callable[[socket.socket], None]) -> None:
        self.path, self.serve = path, serve
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            self.serve(connection)

    def stop(self) -> None:
        self.thread.join(60)
        self.listener.close()


@pytest.fixture(params=["compiled", "script"])
def is_compiled(request) -> bool:
    return request.param == "compiled"


@pytest.fixture
def executable(tmp_path, is_compiled) -> Path:
    return install.install(tmp_path / "bin", PYTHON, tmp_path / "cni.sock", compiled=is_compiled)


@pytest.fixture
def agent(tmp_path):
    started = []

    def start(serve):
        started.append(Agent(tmp_path / "cni.sock", serve))

    yield start
    for each in started:
        each.stop()


def run(executable: Path, env: dict[str, str], stdin: bytes = b"") -> subprocess.CompletedProcess:
    environ = {"PATH": os.environ["PATH"], **env}
    return subprocess.run([executable], env=environ, input=stdin, capture_output=True, timeout=120)


CALL = environment("ADD", "web", "/run/netns/nowhere")
BAD_CONF = json.dumps(
    netconf(Path("/nowhere"), mtu=1)
).encode()  # the stand-alone plugin refuses it without touching a node


def refused_alone(done: subprocess.CompletedProcess) -> bool:
    return done.returncode == 1 and "mtu=1" in json.loads(done.stdout)["msg"]


def test_agents_answer_and_exit_code_are_the_plugins(executable, agent):
    def serve(connection):
        wire.receive(connection)
        wire.send(connection, exit_code=3, stdout=ANSWER)

    agent(serve)
    done = run(executable, CALL, BAD_CONF)
    assert (done.returncode, done.stdout, done.stderr) == (3, ANSWER, b"")


def test_agent_receives_variables_stdin_and_caller(executable, agent):
    received = []

    def serve(connection):
        received.append(wire.receive(connection))
        wire.send(connection, exit_code=0, stdout=b"")

    agent(serve)
    stdin = b"x" * 300_000
    run(executable, {**CALL, "CNI_ARGS": "A=\u00fc", "SECRET": "1"}, stdin)
    own = os.stat("/proc/self/ns/net")
    request = received[0]
    assert request.stdin == stdin
    assert {name: request.environ[name] for name in CALL} == CALL
    assert (request.environ["CNI_ARGS"], "SECRET" in request.environ) == ("A=\u00fc", False)
    assert (request.caller.device, request.caller.inode) == (own.st_dev, own.st_ino)


def test_namespace_travels_as_a_descriptor(executable, agent):
    identities = []

    def serve(connection):
        request = wire.receive(connection)
        identities.append(os.fstat(request.netns_fd).st_ino)
        request.close()
        wire.send(connection, exit_code=0, stdout=b"")

    agent(serve)
    run(executable, {**CALL, "CNI_NETNS": "/proc/self/ns/net"})
    assert identities == [os.stat("/proc/self/ns/net").st_ino]


def test_works_alone_without_an_agent(executable):
    assert refused_alone(run(executable, CALL, BAD_CONF))


def test_works_alone_when_a_dead_agent_left_its_socket(executable, tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "cni.sock"))
    assert refused_alone(run(executable, CALL, BAD_CONF))


def hang_up_at_once(connection):
    pass


def hang_up_after_the_request(connection):
    wire.receive(connection)


def hang_up_in_the_answer(connection):
    wire.receive(connection)
    connection.sendall(b"\0" + len(ANSWER).to_bytes(4, "big") + ANSWER[:5])


def send_elsewhere(connection):
    wire.receive(connection)
    wire.send(connection, exit_code=wire.RUN_ALONE, stdout=b"")


@pytest.mark.parametrize(
    "serve",
    [hang_up_at_once, hang_up_after_the_request, hang_up_in_the_answer, send_elsewhere],
    ids=lambda f: f.__name__,
)
def test_works_alone_when_no_whole_answer_comes(executable, agent, serve):
    agent(serve)
    assert refused_alone(run(executable, CALL, BAD_CONF))


def test_works_alone_when_the_agent_hangs_up_in_the_middle_of_a_long_request(executable, agent):
    agent(lambda connection: connection.recv(1))
    assert refused_alone(run(executable, CALL, BAD_CONF + b" " * 3_000_000))


def test_version_needs_no_agent_and_does_not_wait_for_stdin(executable):
    read_end, write_end = os.pipe()
    try:
        done = subprocess.run(
            [executable], env={"CNI_COMMAND": "VERSION"}, stdin=read_end, capture_output=True, timeout=120
        )
    finally:
        os.close(read_end)
        os.close(write_end)
    assert json.loads(done.stdout)["supportedVersions"][-1] == "1.1.0"


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        (b'{"cniVersion": "0.4.0"}', "0.4.0"),
        (b'{"name": "net",\n "cniVersion" : "1.1.0"}', "1.1.0"),
        (b'{"cniVersion": "9.9.9"}', "1.1.0"),
        (b'{"cniVersion": "supportedVersions"}', "1.1.0"),
        (b'{"cniVersion": 1}', "1.1.0"),
        (b'{"cniVersion"', "1.1.0"),
        (b"", "1.1.0"),
    ],
)
def test_version_is_reported_in_the_version_asked_for(executable, stdin, version):
    report = json.loads(run(executable, {"CNI_COMMAND": "VERSION"}, stdin).stdout)
    assert (report["cniVersion"], report["supportedVersions"][-1]) == (version, "1.1.0")


def test_a_person_who_runs_it_learns_what_it_is(executable):
    done = run(executable, {})
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"CNI plugin podwire" in done.stderr


def test_removed_installation_is_told(tmp_path, is_compiled):
    gone = tmp_path / "gone"
    gone.symlink_to(PYTHON.resolve())
    path = install.install(tmp_path / "bin", gone, tmp_path / "cni.sock", compiled=is_compiled)
    gone.unlink()
    done = run(path, CALL, BAD_CONF)
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 5)


def test_script_takes_the_place_of_what_cannot_be_compiled(tmp_path):
    compiled = install.render(PYTHON, tmp_path / "cni.sock")
    script = install.render(PYTHON, tmp_path / "cni.sock", compiled=False)
    too_long = install.render(PYTHON, Path("/" + "x" * 300))
    assert (compiled[:4], script[:2], too_long[:2]) == (b"\x7fELF", b"#!", b"#!")


def test_shim_and_agent_speak_the_same_protocol():
    assert (shim.MAGIC, shim.RUN_ALONE) == (wire.MAGIC, wire.RUN_ALONE)


def test_installing_again_changes_nothing_and_leaves_no_draft(tmp_path):
    executable = install.install(tmp_path / "bin", PYTHON, tmp_path / "cni.sock")
    before = executable.read_bytes()
    assert install.install(tmp_path / "bin", PYTHON, tmp_path / "cni.sock") == executable
    assert (executable.read_bytes(), sorted(os.listdir(tmp_path / "bin"))) == (before, ["podwire", "podwire-ipam"])


def test_installing_replaces_the_file_so_that_a_running_one_is_not_written_to(executable, tmp_path):
    before = executable.stat().st_ino
    with executable.open():
        install.install(tmp_path / "bin", PYTHON, tmp_path / "cni.sock")
    assert executable.stat().st_ino != before


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(install.InstallError, match=str(tmp_path / "file")):
        install.install(tmp_path / "file", PYTHON, tmp_path / "cni.sock")


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n\r\n", wire.MAGIC + b"\xff" * 8, wire.MAGIC + bytes(8), wire.MAGIC + (9).to_bytes(4, "big")],
    ids=["another protocol", "absurd lengths", "no caller", "stops in the header"],
)
def test_agent_refuses_what_is_no_request(sent):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(sent)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(wire.WireError):
            wire.receive(theirs)
