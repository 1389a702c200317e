"""A network namespace made for one check: the node, or a pod. Gone, with what is in it, when the check is over."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from cni.conform import leftovers
from dataplane import netns
from dataplane.netlink.interface import Netlink
from dataplane.netlink.linux import LinuxNetlink
from dataplane.netlink.objects import Interface

_DEATH_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    name: str
    namespace: netns.Netns
    netlink: Netlink

    @property
    def path(self) -> str:
        return self.namespace.path

    def snapshot(self) -> frozenset[str]:
        """Everything in it as lines of text, to be compared with a later snapshot."""
        lines = set()
        for link in self.netlink.links():
            lines.add(f"link {link.name} {link.kind} {link.mac} {'up' if link.up else 'down'}".replace("  ", " "))
            lines |= {f"address {address} on {link.name}" for address in self.addresses(link.name)}
        return frozenset(lines | {f"route {route}" for route in self.netlink.routes()})

    def addresses(self, ifname: str) -> set[Interface]:
        if self.netlink.link(ifname) is None:
            return set()
        return {address.interface for address in self.netlink.addresses(ifname)}

    def ports(self) -> set[str]:
        """The links an attachment may have left here: all but loopback and the networks' own bridges."""
        return {link.name for link in self.netlink.links() if link.name != "lo" and link.kind != "bridge"}

    def kept(self, before: set[str]) -> list[str]:
        """The links too many. The kernel takes a dead namespace's links away by itself, but not at once."""
        deadline = time.monotonic() + _DEATH_SECONDS
        while (left := self.ports() - before) and time.monotonic() < deadline:
            time.sleep(0.02)
        return [f"{self.name} kept {name}" for name in sorted(left)]


@contextlib.contextmanager
def place(label: str) -> Iterator[Place]:
    """A fresh namespace with loopback up, as a runtime gives it."""
    name = leftovers.namespace_name(label)
    path = netns.create(name)
    try:
        with netns.open_netns(path) as opened:
            netlink = LinuxNetlink(opened.fd)
            try:
                netlink.set_up("lo")
                yield Place(name=name, namespace=opened, netlink=netlink)
            finally:
                leftovers.end_processes(opened)
                netlink.close()
    finally:
        netns.delete(name)
