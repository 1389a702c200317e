"""One call at a time per attachment."""

import subprocess
import sys

import pytest

from cni import locks
from cni.spec import CniError
from ipam.lease import Attachment

A = Attachment(network="net", container_id="a", ifname="eth0")
B = Attachment(network="net", container_id="b", ifname="eth0")


def test_second_holder_is_told_to_try_again(tmp_path):
    with (
        locks.attachment_lock(tmp_path, A),
        pytest.raises(CniError) as caught,
        locks.attachment_lock(tmp_path, A, patience=0.02),
    ):
        pass
    assert (caught.value.code, "a/eth0 on network net" in caught.value.msg) == (11, True)


def test_other_attachments_do_not_wait(tmp_path):
    with locks.attachment_lock(tmp_path, A), locks.attachment_lock(tmp_path, B, patience=0):
        pass


def test_lock_is_free_after_its_holder(tmp_path):
    for _ in range(2):
        with locks.attachment_lock(tmp_path, A, patience=0):
            pass


HOLDER = """
import os, signal, sys
from pathlib import Path
from cni import locks
from ipam.lease import Attachment
with locks.attachment_lock(Path(sys.argv[1]), Attachment(network="net", container_id="a", ifname="eth0")):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_holder_leaves_no_lock(tmp_path):
    done = subprocess.run([sys.executable, "-c", HOLDER, str(tmp_path)], timeout=120)
    assert done.returncode == -9
    with locks.attachment_lock(tmp_path, A, patience=0):
        pass
