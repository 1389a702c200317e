"""How many connections the kernel tracks and how long it remembers them: set once at start, as kube-proxy does.

What cannot be set is left as it is and said so: a container may have /proc read-only, and only the first network
namespace may change the size of the table, which all namespaces share.
"""

import os
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from dataplane import sysctl
from dataplane.errors import DataplaneError
from proxy.configuration import Conntrack

log = structlog.get_logger(__name__)

MAX: Final = "net/netfilter/nf_conntrack_max"
MAX_LIMIT: Final = 1_048_576  # kube-proxy 1.36: many cores do not mean many connections
HASH_SIZE: Final = Path("/sys/module/nf_conntrack/parameters/hashsize")
_ENTRIES_PER_BUCKET: Final = 4  # as kube-proxy has it


class Setting(NamedTuple):
    switch: str
    value: int


def wanted(conntrack: Conntrack, *, cores: int) -> tuple[Setting, ...]:
    """What to set; what is 0 stays as it is."""
    times = (
        ("net/netfilter/nf_conntrack_tcp_timeout_established", conntrack.tcp_established_timeout),
        ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", conntrack.tcp_close_wait_timeout),
        ("net/netfilter/nf_conntrack_tcp_be_liberal", conntrack.tcp_be_liberal),
        ("net/netfilter/nf_conntrack_udp_timeout", conntrack.udp_timeout),
        ("net/netfilter/nf_conntrack_udp_timeout_stream", conntrack.udp_stream_timeout),
    )
    settings = (Setting(MAX, connections(conntrack, cores)), *(Setting(name, int(value)) for name, value in times))
    return tuple(setting for setting in settings if setting.value > 0)


def connections(conntrack: Conntrack, cores: int) -> int:
    """How many connections to track; 0 leaves that to the kernel."""
    if not conntrack.max_per_core:
        return 0
    return min(MAX_LIMIT, max(conntrack.min, conntrack.max_per_core * cores))


def apply(conntrack: Conntrack) -> None:
    """Set what is to be set, in the namespace of the calling thread."""
    settings = wanted(conntrack, cores=os.cpu_count() or 1)
    changed = [setting for setting in settings if _set(setting)]
    for setting in settings:
        # The number of buckets is the machine's: only who may say how many connections may say that too.
        if setting.switch == MAX and os.access(sysctl.ROOT / MAX, os.W_OK):
            _grow_buckets(setting.value // _ENTRIES_PER_BUCKET)
    if changed:
        log.info("set conntrack", **{setting.switch.rpartition("/")[2]: setting.value for setting in changed})


def _set(setting: Setting) -> bool:
    try:
        return sysctl.write(setting.switch, setting.value)
    except DataplaneError as error:
        log.warning("a conntrack setting stays as it is", error=str(error), wanted=setting.value)
        return False


def _grow_buckets(buckets: int) -> None:
    try:
        if int(HASH_SIZE.read_text(encoding="ascii")) < buckets:
            HASH_SIZE.write_text(str(buckets), encoding="ascii")
    except (OSError, ValueError) as error:
        log.warning("conntrack has fewer buckets than it should", path=str(HASH_SIZE), wanted=buckets, error=str(error))
