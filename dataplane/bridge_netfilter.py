"""The kernel module that shows bridged packets to netfilter.

Where it is a module (Debian's kernels), nobody loads it by himself, and a bridge takes its setting `nf_call_iptables`
without a word and without effect: an answer between two pods of a node then passes conntrack by.
"""

import contextlib
import subprocess
from typing import Final

from dataplane import sysctl

MODULE: Final = "br_netfilter"
# All bridges of the machine, from the moment the module is loaded; ours ask for themselves.
SWITCHES: Final = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")


def is_loaded() -> bool:
    return (sysctl.ROOT / SWITCHES[0]).exists()


def load() -> bool:
    """Load it where it is absent, leaving other bridges as they were; return whether it is there."""
    if is_loaded():
        return True
    with contextlib.suppress(OSError):  # no modprobe on this machine
        subprocess.run(["modprobe", MODULE], capture_output=True, check=False)
    if not is_loaded():
        return False
    for switch in SWITCHES:
        sysctl.write(switch, 0)
    return True
