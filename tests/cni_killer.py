"""Runs plugin calls, and kills them with SIGKILL: one JSON object per line in, the fate of the call out.

    {"step": 7, "environ": {"CNI_COMMAND": "ADD", …}, "stdin": "{…}"}  →  {"fate": "killed"} | {"fate": "ended", "answer": {…}}

A step is any call from Python into C that could leave the process: to a socket, a file, or SQLite. The interpreter itself reports
them (sys.setprofile), so nobody has to name the effects of a new feature for its calls to be killed there. Without a
step nothing is killed.

A process of its own, inside the node's namespace, that forks for each call: the death is a real one, with the kernel's own
clean-up of locks, sockets and half-written files, and no import is paid twice.
"""

import json
import os
import signal
import sys
import threading
from types import FrameType

from cni import dispatch
from cni.host import linux_host

LEAVING = {"execute", "ioctl", "mkdir", "open", "send", "sendmsg", "unlink", "write"}
NFT_TEXT = "nftables"  # libnftables is called through ctypes, which reports nothing: its Python side does


class Steps:
    """Kills the process at step number `at`; counts from every thread."""

    def __init__(self, at: int) -> None:
        self.at, self.seen = at, 0

    def watch(self) -> None:
        threading.setprofile(self.on_event)
        sys.setprofile(self.on_event)

    def on_event(self, frame: FrameType, event: str, arg: object) -> None:
        is_leaving = event == "c_call" and getattr(arg, "__name__", "") in LEAVING
        if is_leaving or (event == "call" and frame.f_code.co_name == "cmd" and NFT_TEXT in frame.f_code.co_filename):
            self.step()

    def step(self) -> None:
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    linux_host().close()  # imports the kernel's side before the first fork
    from dataplane.nft import linux  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            run(order, writer)
        os.close(writer)
        with open(reader, "rb") as answer:
            said = answer.read()
        _, status = os.waitpid(child, 0)
        fate = {"fate": "killed"} if os.WIFSIGNALED(status) else {"fate": "ended", "answer": json.loads(said or b"{}")}
        print(json.dumps(fate), flush=True)


def run(order: dict, writer: int) -> None:
    steps = Steps(order["step"] or 0)
    steps.watch()
    reply = dispatch.run(order["environ"], order["stdin"].encode(), linux_host)
    steps.step()  # all is done but the answer
    sys.setprofile(None)
    os.write(writer, reply.stdout)
    os._exit(0)


if __name__ == "__main__":
    main()
