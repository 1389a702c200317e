"""Waiting for packets under way: the kernel's RCU grace period, asked for from user space.

A packet passes all rules of a hook inside one RCU read-side critical section. membarrier(2) with MEMBARRIER_CMD_GLOBAL
returns after every such section that had begun has ended (kernel/sched/membarrier.c calls synchronize_rcu).
"""

import ctypes
import os
import time
from typing import Final

SYS_MEMBARRIER: Final = {"x86_64": 324, "aarch64": 283}
MEMBARRIER_CMD_GLOBAL: Final = 1  # include/uapi/linux/membarrier.h
# Where a CPU runs without ticks (nohz_full) the kernel refuses the command. No packet takes this long.
_LONGEST_PASSAGE_SECONDS: Final = 0.02

_libc = ctypes.CDLL(None, use_errno=True)


def await_readers() -> None:
    """Return when every packet that is in a hook now has left it: 5 to 20 ms."""
    number = SYS_MEMBARRIER.get(os.uname().machine)
    if number is None or _libc.syscall(number, MEMBARRIER_CMD_GLOBAL, 0, 0):
        time.sleep(_LONGEST_PASSAGE_SECONDS)
