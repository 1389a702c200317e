"""Types of the API, used for the first time by many threads at once: in processes of their own, for one may crash."""

import subprocess
import sys

import pytest

FIRST_USE = """
import sys, threading
import msgspec
from kube import objects
sys.setswitchinterval(1e-6)
start = threading.Barrier(4)
def use():
    start.wait()
    for _ in range(50):
        msgspec.convert({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c"}]}}, objects.Pod)
threads = [threading.Thread(target=use) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.parametrize("attempt", range(8))
def test_threads_that_first_use_a_type_at_once_do_not_crash(attempt):
    assert subprocess.run([sys.executable, "-c", FIRST_USE], timeout=60).returncode == 0
