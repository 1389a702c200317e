"""What people read: help, refusals, progress, tables."""

import io
import os
import re

import pytest
from click.testing import CliRunner
from rich.console import Console

from cli import failures, tables
from cli.__main__ import main
from cli.steps import ConsoleProgress
from lab.errors import LabError, StepError


@pytest.fixture
def as_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def console():
    return Console(file=io.StringIO(), width=100, force_terminal=False)


def test_help_lists_what_a_lab_can_do():
    shown = run("lab", "--help").output

    for command in ("up", "down", "status", "exec", "pods", "demo", "stop", "start", "kubectl", "logs"):
        assert f"\n  {command} " in shown


def test_an_unknown_command_is_named():
    refused = run("lab", "destroy")

    assert refused.exit_code == 2
    assert "destroy" in refused.output


def test_without_root_a_lab_says_so_and_how(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    refused = run("lab", "up", "--state-root", str(tmp_path))

    assert refused.exit_code == 1
    assert "needs root" in refused.output
    assert "sudo" in refused.output
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("up", "--name", "Bad"), "--name Bad: use 1 to 12 lower-case letters"),
        (("up", "--name", "unit", "--nodes", "0"), "--nodes 0: a lab has 1 to"),
        (("up", "--name", "unit", "--nodes", "many"), "'many' is not a valid integer"),
        (("up", "--name", "unit", "--cluster-cidr", "10.244.0.0/33"), "'10.244.0.0/33' is neither a network nor"),
        (("up", "--name", "unit", "--service-cidr", "10.244.0.0/20"), "--service-cidr 10.244.0.0/20: it overlaps"),
        (("status", "--name", "unit"), "there is no lab 'unit'"),
        (("exec", "--name", "unit", "node1", "--", "true"), "there is no lab 'unit'"),
        (("stop", "--name", "unit", "api"), "there is no lab 'unit'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_refused_with_the_value_and_nothing_is_made(as_root, tmp_path, arguments, words):
    command, *rest = arguments
    refused = run("lab", command, "--state-root", str(tmp_path), *rest)

    assert refused.exit_code != 0
    assert words in " ".join(refused.output.split())
    assert os.listdir(tmp_path) == []


def test_taking_down_what_is_not_there_is_no_error(as_root, tmp_path):
    done = run("lab", "down", "--state-root", str(tmp_path), "--name", "unit")

    assert done.exit_code == 0
    assert "nothing to take down" in done.output


def test_a_failed_step_shows_the_end_of_its_log_and_what_to_do(tmp_path):
    log = tmp_path / "api.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    out = console()

    with pytest.raises(SystemExit) as ended, failures.shown(out):
        raise StepError("API server", "api keeps ending (exit status 1)", log=log, remedy="Try again: podwire lab up")

    text = out.file.getvalue()
    assert ended.value.code == 1
    assert "API server: api keeps ending" in text
    assert "line 99" in text
    assert "line 50" not in text
    assert "podwire lab up" in text


def test_problems_with_square_brackets_are_shown_as_they_are():
    out = console()

    with pytest.raises(SystemExit), failures.shown(out):
        raise LabError("field [red] of [/x]")

    assert "field [red] of [/x]" in out.file.getvalue()


def test_a_step_is_one_line_with_its_mark_time_and_words():
    out = console()
    with ConsoleProgress(out).step("Nodes") as step:
        step.say("waiting for node1")
        step.say("3 namespaces")

    lines = [line for line in out.file.getvalue().splitlines() if line.strip()]
    assert len(lines) == 1
    assert re.fullmatch(r" *✓ +Nodes +\d+\.\d s +3 namespaces *", lines[0])


def test_a_failing_step_is_marked_and_its_error_goes_on():
    out = console()
    with pytest.raises(LabError), ConsoleProgress(out).step("Nodes"):
        raise LabError("no")

    assert "✗ Nodes" in out.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m0s"), (3599, "59m59s"), (3600, "1h0m"), (90000, "1d1h"), (86400 * 3, "3d0h")],
)
def test_durations_are_spelled_as_kubectl_spells_them(seconds, text):
    assert tables.duration(seconds) == text


def test_the_plugin_can_be_installed_for_another_runtime(tmp_path):
    done = run("cni", "install", "--bin-dir", str(tmp_path / "bin"), "--socket", str(tmp_path / "cni.sock"))

    assert done.exit_code == 0, done.output
    assert done.output == f"installed {tmp_path}/bin/podwire and {tmp_path}/bin/podwire-ipam\n"
    assert all(os.access(tmp_path / "bin" / name, os.X_OK) for name in ("podwire", "podwire-ipam"))


def test_a_plugin_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "bin").write_text("a file")

    refused = run("cni", "install", "--bin-dir", str(tmp_path / "bin" / "sub"))

    assert refused.exit_code != 0
    assert str(tmp_path / "bin") in refused.output
