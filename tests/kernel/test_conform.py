"""The conformance kit itself: it finds what is broken, scores the reference plugins, and leaves nothing behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni.conform import kit, world
from cni.conform.verdict import Verdict
from tests.waiting import PATIENCE, eventually

REFERENCE = Path("/usr/lib/cni")
PODWIRE = Path(sys.prefix) / "bin" / "podwire"


def plugin(directory: Path, script: str) -> Path:
    """The reference bridge behind a few lines of shell."""
    path = directory / "bridge"
    path.write_text(f"#!/bin/sh\n{script}\nexec {REFERENCE}/bridge\n")
    path.chmod(0o755)
    return path


def failed(executable: Path, *prefixes: str) -> set[str]:
    card = kit.examine(kit.subject(executable, cni_path=str(REFERENCE), patience=60 * PATIENCE), kit.selected(prefixes))
    return {finding.id for finding in card.findings if finding.verdict is Verdict.FAIL}


BROKEN = {
    "logs on stdout": ('[ "$CNI_COMMAND" = ADD ] && echo adding', "add.stdout", {"add.stdout"}),
    "forgets DEL": ('[ "$CNI_COMMAND" = DEL ] && exit 0', "del.removes", {"del.removes"}),
    "keeps the address": ('[ "$CNI_COMMAND" = DEL ] && exit 0', "del.frees", {"del.frees"}),
    "DEL needs the namespace": (
        '[ "$CNI_COMMAND" = DEL ] && [ ! -e "$CNI_NETNS" ] && exit 1',
        "del.netns-",
        {"del.netns-empty", "del.netns-gone"},
    ),
    "CHECK sees nothing": (
        '[ "$CNI_COMMAND" = CHECK ] && exit 0',
        "check.",
        {
            "check.address",
            "check.route",
            "check.interface",
            "check.unknown",
            "check.no-prev-result",
            "check.version",
        },
    ),
    "errors on stderr": (
        f'if [ "$CNI_IFNAME" = . ]; then {REFERENCE}/bridge >&2; exit 1; fi',
        "env.ifname.dot",
        {"env.ifname.dot"},
    ),
    "one version less": (
        'if [ "$CNI_COMMAND" = VERSION ]; then echo \'{"cniVersion":"9.9.9","supportedVersions":["1.0.0","1.1.0"]}\'; exit 0; fi',
        "result.1.",
        {"result.1.1.0"},
    ),
    "speaks no VERSION": ('[ "$CNI_COMMAND" = VERSION ] && exit 3', "version.", {"version.report", "version.runtime"}),
}


@pytest.mark.parametrize(("script", "prefix", "expected"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_plugin_fails_where_it_is_broken(tmp_path, script, prefix, expected):
    assert failed(plugin(tmp_path, script), prefix) == expected


def test_the_reference_bridge_fails_where_it_is_known_to():
    # Killed at an unlucky moment host-local keeps an empty file and loses the address: not every time.
    assert failed(REFERENCE / "bridge") - {"del.after-killed-add"} == {
        "add.failed.route",
        "add.prev-result",
        "check.fresh.route",
        "del.foreign-netns",
        "env.netns.own.add",
        "env.netns.own.del",
        "error.version",
        "pool.exhausted",
        "version.echo",
    }


def left(examiner: int) -> set[str]:
    """The namespaces and folders of one process's examinations."""
    made = {*Path("/run/netns").glob(f"conform-*-{examiner}-*"), *Path("/tmp").glob(f"podwire-conform-{examiner}-*")}
    return {path.name for path in made}


def links() -> set[str]:
    """The names of this machine's own links."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def inside(examiner: int) -> list[int]:
    """The processes in the node of the check that is under way."""
    nodes = Path("/run/netns").glob(f"conform-node-{examiner}-*")
    listed = [subprocess.run(["ip", "netns", "pids", node.name], capture_output=True, text=True) for node in nodes]
    return [int(pid) for done in listed for pid in done.stdout.split()]


def is_running(pid: int) -> bool:
    """Whether there is such a process, and one that is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_is_left_of_an_examination():
    before = links()
    kit.examine(kit.subject(REFERENCE / "bridge"), kit.selected(("add.", "del.foreign")))
    assert left(os.getpid()) == set()
    # Another program's link may come meanwhile, and go.
    eventually(lambda: links() <= before)


@contextlib.contextmanager
def examination(executable: Path) -> Iterator[subprocess.Popen]:
    """One that has begun. env: a shell's background job ignores SIGINT, and so would what is started there."""
    argv = ["env", "--default-signal", PODWIRE, "conform", executable, "--cni-path", REFERENCE]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: any(name.startswith("conform-") for name in left(process.pid)))
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_of_an_examination_that_is_ended(ended_by):
    with examination(REFERENCE / "bridge") as process:
        process.send_signal(ended_by)
        assert process.wait(timeout=60) == 1
        assert left(process.pid) == set()


def test_an_examination_is_ended_as_often_as_it_is_asked_to(tmp_path):
    with examination(plugin(tmp_path, "exec sleep 1000")) as process:
        for _ in range(100):
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        assert left(process.pid) == set()


def test_what_a_killed_examination_left_goes_with_the_next(tmp_path):
    with examination(plugin(tmp_path, "exec sleep 1000")) as killed:
        sleeping = eventually(lambda: inside(killed.pid))
    kit.subject(REFERENCE / "ptp")
    eventually(lambda: not any(map(is_running, sleeping)))
    # An examination of another test may be at it as well, and not be through.
    eventually(lambda: left(killed.pid) == set())


def test_what_another_examination_has_in_use_stays(tmp_path):
    with examination(plugin(tmp_path, "exec sleep 1000")) as other:
        in_use = left(other.pid)
        kit.subject(REFERENCE / "ptp")
        assert left(other.pid) == in_use


def test_a_process_that_a_plugin_left_running_ends_with_its_world(tmp_path):
    pid_file = tmp_path / "pid"
    stays = f"setsid sleep 1000 >/dev/null 2>&1 & echo $! >{pid_file}"
    failed(plugin(tmp_path, f'if [ "$CNI_COMMAND" = ADD ]; then {stays}; fi'), "add.address")
    eventually(lambda: not is_running(int(pid_file.read_text())))


def test_a_killed_call_is_over_though_what_it_started_still_holds_its_output():
    stays = [
        "sh",
        "-c",
        "setsid sh -c 'echo $$; exec sleep 60' & sleep 60",
    ]  # it says who it is once it has left the group
    process = subprocess.Popen(stays, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    holder = int(process.stdout.readline())
    world.kill(process)
    was_running = is_running(holder)
    os.kill(holder, signal.SIGKILL)
    assert was_running


def run(*arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run([PODWIRE, "conform", *arguments], capture_output=True, text=True, timeout=110)


STATIC = {"type": "bridge", "bridge": "one", "ipam": {"type": "static", "addresses": [{"address": "192.0.2.7/24"}]}}
LEGACY = {"type": "bridge", "bridge": "one", "ipam": {"type": "host-local", "subnet": "192.0.2.0/24"}}


@pytest.mark.parametrize(("conf", "counts"), [(STATIC, (0, 1)), (LEGACY, (1, 0))], ids=["static", "legacy"])
def test_configurations_of_ones_own_are_used_and_what_they_do_not_allow_is_skipped(tmp_path, conf, counts):
    (tmp_path / "conf").write_text(json.dumps(conf))
    done = run(REFERENCE / "bridge", "--conf", tmp_path / "conf", "--only", "pool.recovered", "--json")
    card = json.loads(done.stdout)
    assert (done.returncode, card["counts"]["pass"], card["counts"]["skipped"]) == (0, *counts)


def test_scorecard_as_json_says_what_was_done_expected_and_seen():
    done = run(REFERENCE / "bridge", "--only", "version.echo", "--only", "version.report", "--json")
    card = json.loads(done.stdout)
    assert (done.returncode, card["counts"]) == (1, {"pass": 1, "fail": 1, "skipped": 0})
    assert set(card["findings"][0]) == {"id", "clause", "done", "expected", "seen", "verdict"}


def test_scorecard_of_a_plugin_without_failures_exits_with_success():
    done = run(REFERENCE / "ptp", "--only", "add.address")
    assert (done.returncode, "1 pass, 0 fail, 0 skipped" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("/etc/passwd",), "plugin /etc/passwd: not an executable file"),
        ((REFERENCE / "ptp", "--only", "nothing"), "--only nothing: no check's id begins so"),
        ((REFERENCE / "ptp", "--conf", "/etc/hostname"), "--conf /etc/hostname: not JSON"),
    ],
)
def test_what_cannot_be_examined_is_told_apart_from_a_failure(arguments, problem):
    done = run(*arguments)
    assert (done.returncode, problem in done.stderr) == (2, True)
