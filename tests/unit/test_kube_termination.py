"""A program is asked to end, at whatever moment."""

import signal
import subprocess
import sys

import pytest

# Signals that come while the main thread goes in and out of `wait`: by way of Event.set from a handler this stands still
# for ever after some thousand of them.
_STORM = """
import os, signal
from kube.termination import Termination
termination, program = Termination(), os.getpid()
storm = os.fork()
if not storm:
    for _ in range(20_000):
        os.kill(program, signal.SIGTERM)
        os.sched_yield()
    os._exit(0)
while os.waitpid(storm, os.WNOHANG)[0] == 0:
    termination.is_asked_for = False
    termination.wait(0.00001)
termination.is_asked_for = False
os.kill(program, signal.SIGTERM)
print(termination.wait())
"""
_ASKED = """
from kube.termination import Termination
termination = Termination()
print(termination.wait(0.001), termination.is_asked_for, flush=True)
print(termination.wait(), termination.is_asked_for, termination.wait(0.001))
"""


def started(script: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_and_stays_known(number):
    with started(_ASKED) as program:
        before = program.stdout.readline()
        program.send_signal(number)
        after = program.stdout.readline()

    assert (before, after) == ("False False\n", "True True True\n")


def test_signals_at_any_moment_never_hold_the_program_up():
    with started(_STORM) as program:
        try:
            said, _ = program.communicate(timeout=60)
        finally:
            program.kill()

    assert said == "True\n"
