"""The kernel module that shows bridged packets to netfilter.

Where it is a module (Debian's kernels), nobody loads it by himself, and a bridge takes its setting `nf_call_iptables`
without a word and without effect: an answer between two pods of a node then passes conntrack by.
"""

import contextlib
import subprocess
from typing import Final

from dataplane import sysctl

MODULE: Final = "br_netfilter"
# All bridges of the machine, from the moment the module is loaded; ours ask for themselves. The kernel begins with 1.
SWITCHES: Final = tuple(f"net/bridge/bridge-nf-call-{tool}" for tool in ("iptables", "ip6tables", "arptables"))
# Gives them what the administrator has put into sysctl.d; at boot there was nothing yet to give it to.
CONFIGURED: Final = ("/usr/lib/systemd/systemd-sysctl", "--prefix=/net/bridge")


def is_loaded() -> bool:
    return (sysctl.ROOT / SWITCHES[0]).exists()


def load() -> bool:
    """Load it where it is absent, leaving other bridges as they were; return whether it is there.

    Who loads it sets the switches: where others have loaded it, in this very moment too, theirs stay as they are.
    """
    # --first-time: an error where it is loaded already.
    if not is_loaded() and _runs("modprobe", "--first-time", MODULE):
        for switch in SWITCHES:
            sysctl.write(switch, 0)
        _runs(*CONFIGURED)
    return is_loaded()


def _runs(*argv: str) -> bool:
    with contextlib.suppress(OSError):  # this machine has no such program
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    return False


if __name__ == "__main__":
    load()
