"""The conformance kit itself: it finds what is broken, scores the reference plugins, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cni.conform import kit
from cni.conform.verdict import Verdict
from tests.waiting import eventually

REFERENCE = Path("/usr/lib/cni")
PODWIRE = Path(sys.prefix) / "bin" / "podwire"


def plugin(directory: Path, script: str) -> Path:
    """The reference bridge behind a few lines of shell."""
    path = directory / "bridge"
    path.write_text(f"#!/bin/sh\n{script}\nexec {REFERENCE}/bridge\n")
    path.chmod(0o755)
    return path


def failed(executable: Path, *prefixes: str) -> set[str]:
    card = kit.examine(kit.subject(executable, cni_path=str(REFERENCE)), kit.selected(prefixes))
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


def left(examiner: int) -> tuple[set[str], str]:
    """The namespaces and folders of one process's examinations, and this machine's own links."""
    made = {*Path("/run/netns").glob(f"conform-*-{examiner}-*"), *Path("/tmp").glob(f"podwire-conform-{examiner}-*")}
    return {path.name for path in made}, subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True).stdout


def test_nothing_is_left_of_an_examination():
    before = left(os.getpid())
    kit.examine(kit.subject(REFERENCE / "bridge"), kit.selected(("add.", "del.foreign")))
    assert left(os.getpid()) == before


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_an_examination_that_is_ended(ended_by):
    process = subprocess.Popen(
        [PODWIRE, "conform", REFERENCE / "bridge"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    eventually(lambda: left(process.pid)[0])
    process.send_signal(ended_by)
    assert process.wait(timeout=30) == 1
    assert left(process.pid)[0] == set()


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
