"""Network namespaces a test makes and removes: the only places where tests touch a kernel's network state.

Built on iproute2 and raw setns, not on podwire's own dataplane, so that a test never checks the code with itself.
"""

import contextlib
import ctypes
import functools
import os
import re
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_FOLDER = "/run/netns"
_NAME = re.compile(r"pwt-(\d+)-.+")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A named network namespace below /run/netns."""

    name: str

    @property
    def path(self) -> str:
        return f"{_FOLDER}/{self.name}"

    def run(self, *argv: str, check: bool = True, stdin: str | None = None, timeout: float = 250) -> str:
        """Run a program inside and return its output; its stderr is part of the failure."""
        done = subprocess.run(self.argv(*argv), capture_output=True, text=True, input=stdin, timeout=timeout)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)} in {self.name}: exit {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def start(self, *argv: str, **options) -> subprocess.Popen:
        """Start a program inside; the caller ends it."""
        return subprocess.Popen(self.argv(*argv), **options)

    def argv(self, *argv: str) -> list[str]:
        # nsenter, not `ip netns exec`: the latter also remounts /sys in a mount namespace of its own.
        return ["nsenter", f"--net={self.path}", "--", *argv]

    def call(self, function: Callable[[], T]) -> T:
        """Run a function in a thread that has entered the namespace: sockets it opens stay inside for good."""
        outcome: list[T] = []
        failure: list[BaseException] = []

        def enter_and_call() -> None:
            try:
                with open(self.path) as file:
                    if _libc.setns(file.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                outcome.append(function())
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
                failure.append(error)

        thread = threading.Thread(target=enter_and_call)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]


@contextlib.contextmanager
def namespace(label: str = "ns") -> Iterator[Namespace]:
    """A fresh namespace with loopback up; removed with every process in it at the end."""
    _show_bridged_packets_to_netfilter()
    made = Namespace(new_name(label))
    subprocess.run(["ip", "netns", "add", made.name], check=True)
    try:
        made.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        remove(made)


def new_name(label: str) -> str:
    """A name nobody has; it says which process will remove the namespace."""
    return f"pwt-{os.getpid()}-{label}-{secrets.token_hex(4)}"


def sweep() -> None:
    """Remove the namespaces of tests that were killed before they could, with every process in them."""
    for name in os.listdir(_FOLDER) if os.path.isdir(_FOLDER) else ():
        made_by = _NAME.fullmatch(name)
        if made_by and not os.path.exists(f"/proc/{made_by[1]}"):
            with contextlib.suppress(subprocess.CalledProcessError):  # another session sweeps as well
                remove(Namespace(name))


@functools.cache
def _show_bridged_packets_to_netfilter() -> None:
    """Debian's kernels do so only with a module; the machine's own bridges stay as they were."""
    if os.path.exists("/proc/sys/net/bridge"):
        return
    subprocess.run(["modprobe", "br_netfilter"], check=True)
    for switch in ("iptables", "ip6tables"):
        with open(f"/proc/sys/net/bridge/bridge-nf-call-{switch}", "w") as file:
            file.write("0")


def remove(made: Namespace) -> None:
    pids = subprocess.run(["ip", "netns", "pids", made.name], capture_output=True, text=True).stdout.split()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), 9)
    subprocess.run(["ip", "netns", "delete", made.name], check=True)


def connect(left: Namespace, left_address: str, right: Namespace, right_address: str, *, device: str = "eth0") -> None:
    """A veth between two namespaces, addressed (`192.0.2.1/24`) and up on both ends."""
    left.run("ip", "link", "add", device, "type", "veth", "peer", "name", device, "netns", right.name)
    for end, address in ((left, left_address), (right, right_address)):
        flags = ["nodad"] if ":" in address else []
        end.run("ip", "address", "add", address, "dev", device, *flags)
        end.run("ip", "link", "set", device, "up")
