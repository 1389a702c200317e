"""Processes known by what the kernel says of them."""

import os
import signal
import time

import pytest

from lab import processes
from lab.process import Process
from tests.waiting import eventually


@pytest.fixture
def lab_folder(tmp_path):
    return tmp_path / "lab"


@pytest.fixture
def spawn(lab_folder, tmp_path):
    started = []

    def start(*argv, role="tester", **options):
        variables = {"PATH": os.environ["PATH"], processes.LAB: str(lab_folder), processes.ROLE: role}
        process = processes.spawn(argv, log=tmp_path / "log", variables=variables, **options)
        started.append(process)
        return process

    yield start
    processes.kill(started)
    for process in started:
        processes.reap(process.pid)


def test_a_spawned_process_is_alive_in_a_session_of_its_own(spawn):
    process = spawn("sleep", "60")

    assert processes.is_alive(process)
    assert processes.is_session_leader(process)
    assert os.getsid(process.pid) != os.getsid(0)


def test_both_outputs_are_appended_to_the_log(spawn, tmp_path):
    (tmp_path / "log").write_text("before\n")
    assert processes.run_to_end(spawn("sh", "-c", "echo out; echo err >&2"), seconds=60) == 0

    assert (tmp_path / "log").read_text() == "before\nout\nerr\n"


def test_a_program_that_is_not_there_is_an_error_of_the_caller(spawn):
    with pytest.raises(FileNotFoundError):
        spawn("no-such-program-anywhere")


def test_a_later_process_of_the_same_number_is_not_the_same_process(spawn):
    process = spawn("sleep", "60")
    earlier = Process(pid=process.pid, started=process.started - 1)

    assert not processes.is_alive(earlier)
    assert processes.open_pidfd(earlier) is None
    processes.send(earlier, signal.SIGKILL)
    assert processes.is_alive(process)


def test_an_ended_but_unread_child_counts_as_gone(spawn):
    process = spawn("true")

    eventually(lambda: not processes.is_alive(process))
    assert processes.lookup(process.pid) is None


def test_processes_are_found_by_lab_and_role_oldest_first(spawn, lab_folder):
    old = spawn("sleep", "60", role="node1/agent")
    eventually(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK") > old.started + 2)
    young = spawn("sleep", "60", role="node1/agent")
    other = spawn("sleep", "60", role="api")

    # The kernel shows a new program's environment a moment after it has begun to run.
    eventually(lambda: processes.of_lab(lab_folder) == {"node1/agent": [old, young], "api": [other]})


def test_a_folder_whose_name_only_begins_the_same_is_another_lab(spawn, lab_folder):
    spawn("sleep", "60")
    eventually(lambda: processes.of_lab(lab_folder))

    assert processes.of_lab(lab_folder.with_name("la")) == {}


def test_children_carry_the_marks_of_their_parent(spawn, lab_folder):
    parent = spawn("sh", "-c", "sleep 60 & wait", role="pod/abc/web")

    found = eventually(lambda: len(both := processes.of_lab(lab_folder).get("pod/abc/web", [])) == 2 and both)
    assert [parent] == [each for each in found if processes.is_session_leader(each)]


def test_ending_waits_for_a_program_that_cleans_up(spawn, tmp_path):
    process = spawn(
        "sh", "-c", f"trap 'touch {tmp_path}/clean; exit 0' TERM; touch {tmp_path}/up; while :; do sleep 0.01; done"
    )
    eventually((tmp_path / "up").exists)

    processes.end([process], grace=60)

    assert (tmp_path / "clean").exists()
    assert not processes.is_alive(process)


def test_ending_kills_a_program_that_ignores_it(spawn, tmp_path):
    process = spawn("sh", "-c", f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.01; done")
    eventually((tmp_path / "up").exists)

    processes.end([process], grace=0.05)

    assert not processes.is_alive(process)
    assert processes.reap(process.pid) == 137


def test_a_signal_blocked_at_birth_does_not_end_a_program_before_it_is_ready(spawn):
    process = spawn("sleep", "60", blocked=(signal.SIGHUP,))

    processes.send(process, signal.SIGHUP)

    assert processes.wait_gone([process], seconds=0.1) == (process,)


def test_a_passed_socket_is_descriptor_three(spawn, tmp_path):
    left, right = os.pipe()
    assert processes.run_to_end(spawn("sh", "-c", "echo through >&3", passed_socket=right), seconds=60) == 0

    os.close(right)
    with os.fdopen(left) as reader:
        assert reader.read() == "through\n"


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_the_end_of_a_child_is_told_as_a_shell_tells_it(spawn, script, code):
    assert code == processes.run_to_end(spawn("sh", "-c", script), seconds=60)


def test_a_run_that_takes_too_long_is_killed_and_has_no_result(spawn):
    process = spawn("sleep", "60")

    assert processes.run_to_end(process, seconds=0.05) is None
    assert not processes.is_alive(process)
