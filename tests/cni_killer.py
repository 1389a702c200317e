"""Runs plugin calls that kill themselves: one JSON object per line in, the fate of the call out.

    {"step": 7, "command": "ADD", "pod": "pwt-pod-1", "netns": "/run/netns/…", "stdin": "{…}"}  →  killed | ended

A process of its own, inside the node's namespace, that forks for each call: the death is a real SIGKILL, with the
kernel's own clean-up of locks, sockets and half-written files, and no import is paid twice.
"""

import json
import os
import signal
import sys

from cni import dispatch
from cni.host import linux_host
from tests.cni_node import FailPoint, environment, interrupted


def main() -> None:
    linux_host().close()  # imports the kernel's side before the first fork
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            run(order)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else "ended", flush=True)


def run(order: dict) -> None:
    point = FailPoint(order["step"], lambda: os.kill(os.getpid(), signal.SIGKILL))
    environ = environment(order["command"], order["pod"], order["netns"])
    dispatch.run(environ, order["stdin"].encode(), lambda: interrupted(linux_host(), point))
    os._exit(0)


if __name__ == "__main__":
    main()
