"""The node agent: watches Nodes and the kernel, and keeps this node's part of the cluster network.

    Nodes ──watch──► cache ──► members ──► routes, masquerade table, network configuration ──► kernel, files
    kernel ──news──► the same parts look again                       own Node's status ◄── readiness

A part that fails is tried again and stops no other. The API and the kernel have a loop each: a server that does not
answer must not delay the repair of a route. Nothing is undone when the agent ends.
"""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from dataplane.errors import DataplaneError
from dataplane.netlink.monitor import Change, Kind, Monitor
from dataplane.netlink.objects import Address, Protocol
from kube import resources
from kube.backoff import Backoff
from kube.control import ControlLoop, one_by_one
from kube.http import Client
from kube.informer import Informer
from kube.leases import RENEW_SECONDS
from kube.objects import Node
from node import address
from node.heartbeat import Heartbeat
from node.pod_network import Paths
from node.registrar import Registrar
from node.registration import Claim, Identity
from node.upkeep import Doors, Part, Upkeep

log = structlog.get_logger(__name__)

# Everything is looked at this often even if nobody reported a change: files and sysctls send no news.
RESYNC_SECONDS: Final = 30.0
# The kernel reports one cause as several changes; wait for the rest of them.
_SETTLE_SECONDS: Final = 0.05
_NEWS_SECONDS: Final = 0.5
_JOIN_SECONDS: Final = 3.0
_OTHER: Final = {4: 6, 6: 4}
# A node that missed a renewal tries again well before it counts as lost.
_HEARTBEAT_BACKOFF: Final = Backoff(first=0.2, longest=RENEW_SECONDS / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator chooses."""

    identity: Identity
    node_ips: tuple[Address, ...]  # empty: found out
    paths: Paths


class Agent:
    """Runs from `start` to `stop`; a new one takes over what an earlier one left."""

    def __init__(self, open_client: Callable[[], Client], settings: Settings, doors: Doors, monitor: Monitor) -> None:
        client = open_client()
        self._server = client.server
        self._settings = settings
        self._doors = doors
        self._monitor = monitor
        self._informer: Informer[Node] = Informer(client, resources.NODES, Node)
        name = settings.identity.name
        self._upkeep = Upkeep(name, self._informer.cache, paths=settings.paths, doors=doors)
        self._registrar = Registrar(open_client, settings.identity, self._upkeep.own_node)
        self._heartbeat = Heartbeat(open_client(), self._upkeep.own_node)
        self._addresses: tuple[Address, ...] = ()
        self._generation = -1
        self._kernel_loop: ControlLoop[Part] = ControlLoop("kernel")
        self._api_loop: ControlLoop[str] = ControlLoop("api")
        self._heartbeat_loop: ControlLoop[str] = ControlLoop("heartbeat", backoff=_HEARTBEAT_BACKOFF)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._check_node_ips()
        self._informer.cache.subscribe(self._on_node)
        self._mark_all()
        self._informer.start()
        self._run("kernel", lambda: self._kernel_loop.run(one_by_one(self._sync_part)))
        self._run("api", lambda: self._api_loop.run(one_by_one(self._sync_registration)))
        self._run("heartbeat", lambda: self._heartbeat_loop.run(one_by_one(self._renew_lease)))
        self._run("kernel-news", self._follow_kernel)
        self._run("first-list", self._await_first_list)

    def stop(self) -> None:
        """End all threads; what was set up stays."""
        self._stopping.set()
        self._kernel_loop.stop()
        self._api_loop.stop()
        self._heartbeat_loop.stop()
        self._informer.stop()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)

    def _run(self, name: str, target: Callable[[], None]) -> None:
        # Daemons: a request to a server that does not answer cannot be interrupted, and must not keep the process.
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _mark_all(self) -> None:
        for part in Part:
            self._kernel_loop.mark(part)
        self._api_loop.mark(self._settings.identity.name)
        self._heartbeat_loop.mark(self._settings.identity.name)

    def _await_first_list(self) -> None:
        while not self._informer.cache.synced.wait(_NEWS_SECONDS):
            if self._stopping.is_set():
                return
        self._mark_all()

    def _check_node_ips(self) -> None:
        for node_ip in self._settings.node_ips:
            if not address.is_here(self._doors.host.netlink, node_ip):
                log.warning(
                    "--node-ip is not an address of this machine: other nodes may not reach it", node_ip=str(node_ip)
                )

    # Rounds

    def _sync_part(self, part: Part) -> None:
        try:
            self._upkeep.sync(part)
        finally:
            if part is Part.NETWORK:  # readiness follows from how it went
                self._api_loop.mark(self._settings.identity.name)
        self._kernel_loop.mark(part, after=RESYNC_SECONDS)

    def _sync_registration(self, name: str) -> None:
        # Before the list is complete an absent Node means nothing.
        if self._informer.cache.synced.is_set():
            self._registrar.sync(Claim(addresses=self._own_addresses(), readiness=self._upkeep.readiness()))
        self._api_loop.mark(name, after=RESYNC_SECONDS)

    def _renew_lease(self, name: str) -> None:
        self._heartbeat.sync(name)
        self._heartbeat_loop.mark(name, after=RENEW_SECONDS)

    def _own_addresses(self) -> tuple[Address, ...]:
        """Those chosen before, as long as this machine has them: the way to the server may change for a moment."""
        if self._settings.node_ips:
            return self._settings.node_ips
        netlink = self._doors.host.netlink
        kept = tuple(each for each in self._addresses if address.is_here(netlink, each))
        if not kept or kept[0] != self._addresses[0]:
            kept = (address.choose(netlink, self._server),)
            self._registrar.reconnect()
            log.info("node address chosen", address=str(kept[0]), way_to=self._server)
        if len(kept) == 1 and self._upkeep.has_pods_of(_OTHER[kept[0].version]):
            second = address.beside(netlink, kept[0])
            kept += (second,) if second else ()
        self._addresses = kept
        return kept

    # News

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if old is None or new is None or _routing(old) != _routing(new):
            self._kernel_loop.mark(Part.ROUTES)
            self._kernel_loop.mark(Part.MASQUERADE)
            self._kernel_loop.mark(Part.NETWORK)
            self._kernel_loop.mark(Part.FORWARDING)
        if self._settings.identity.name in {node.metadata.name for node in (old, new) if node}:
            self._api_loop.mark(self._settings.identity.name)
            if old is None:  # the sooner the cluster hears of a new node the better
                self._heartbeat_loop.mark(self._settings.identity.name)

    def _follow_kernel(self) -> None:
        while not self._stopping.is_set():
            try:
                self._on_changes(self._monitor.changes(_NEWS_SECONDS))
                self._compare_generation()
            except (DataplaneError, OSError) as error:
                log.warning("news from the kernel cannot be read", error=str(error))
                self._stopping.wait(_NEWS_SECONDS)

    def _on_changes(self, changes: list[Change]) -> None:
        relevant = [change for change in changes if self._is_relevant(change)]
        if not relevant:
            return
        self._kernel_loop.mark(Part.ROUTES, after=_SETTLE_SECONDS)
        self._api_loop.mark(self._settings.identity.name, after=_SETTLE_SECONDS)
        if any(change.kind is not Kind.ROUTE for change in relevant):
            self._kernel_loop.mark(Part.NETWORK, after=_SETTLE_SECONDS)

    def _is_relevant(self, change: Change) -> bool:
        """Pods come and go on links of their own, and routing daemons change thousands of routes: no news for us."""
        match change.kind:
            case Kind.LINK:
                return change.index in self._upkeep.devices
            case Kind.ROUTE:
                return change.protocol == Protocol.PODWIRE or change.protocol <= Protocol.STATIC
        return True

    def _compare_generation(self) -> None:
        # Asking costs 0.04 ms. A subscription would make every transaction of everybody ten times as slow.
        generation = self._generation
        with contextlib.suppress(DataplaneError):  # the masquerade part says so itself
            generation = self._doors.nft.generation()
        if generation != self._generation:
            self._generation = generation
            self._kernel_loop.mark(Part.MASQUERADE)
            self._kernel_loop.mark(Part.GATES)


def _routing(node: Node) -> tuple[object, ...]:
    """The part of a Node that others route by; conditions change often and do not matter."""
    return node.metadata.uid, node.spec, node.status.addresses
