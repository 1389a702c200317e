"""The parts of this node that the agent keeps as the cluster wants them, each on its own.

A part looks at what is true now: the cache of Nodes on one side, the kernel or a file on the other. While the API has no
entry for this node nothing is changed: a server that lost its store must not take the pods' network with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import structlog

from cni.host import Host
from dataplane import sysctl
from dataplane.nft.interface import Nft
from ipam.cidrs import spell
from kube.cache import Cache
from kube.objects import Node
from node import address, conflist, machine, masquerade, members
from node.garbage import GarbageCollector
from node.gates import Gates
from node.masquerade_table import MasqueradeTable
from node.members import Cluster, Member
from node.pod_network import Paths, PodNetworkFiles
from node.problems import ProblemLog
from node.registration import Readiness
from node.route_table import RouteTable

log = structlog.get_logger(__name__)

_DEFAULT_MTU = 1500
_ROUTER_ADVERTISEMENT = 9  # RTPROT_RA, include/uapi/linux/rtnetlink.h


class Part(Enum):
    FORWARDING = "forwarding"
    PLUGIN = "plugin"
    NETWORK = "network configuration"
    ROUTES = "routes"
    MASQUERADE = "masquerade"
    LEFTOVERS = "leftovers"
    GATES = "source check"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """The ways to the kernel: the plugin's view of the node, and the agent's own tables."""

    host: Host
    nft: Nft
    nft6: Nft
    has_ipv6: Callable[[], bool] = machine.has_ipv6


class Upkeep:
    def __init__(self, name: str, nodes: Cache[Node], *, paths: Paths, doors: Doors) -> None:
        self._name = name
        self._nodes = nodes
        self._host = doors.host
        self._has_ipv6 = doors.has_ipv6
        self._problems = ProblemLog()
        self._network_failure = ""
        self._network_seen = False
        self._files = PodNetworkFiles(paths)
        self._routes = RouteTable(doors.host.netlink, name, self._problems)
        self._masquerades = (
            MasqueradeTable(doors.nft, masquerade.TABLE, name),
            MasqueradeTable(doors.nft6, masquerade.TABLE6, name),
        )
        self._gates = Gates(conflist.NETWORK_NAME, paths.leases, doors.host)
        garbage = GarbageCollector(conflist.NETWORK_NAME, paths.leases, doors.host)
        self._syncs: Mapping[Part, Callable[[], object]] = {
            Part.FORWARDING: self._sync_forwarding,
            Part.PLUGIN: self._files.sync_plugin,
            Part.NETWORK: self._sync_network,
            Part.ROUTES: self._sync_routes,
            Part.MASQUERADE: self._sync_masquerade,
            Part.LEFTOVERS: garbage.sync,
            Part.GATES: self._gates.sync,
        }

    @property
    def devices(self) -> frozenset[int]:
        """The links that the way to other nodes has led through."""
        return self._routes.devices

    def own_node(self) -> Node | None:
        return self._nodes.get("", self._name)

    def has_pods_of(self, version: int) -> bool:
        """Whether pods of this node get addresses of a family."""
        own = self._own()
        return own is not None and own.has_pods_of(version)

    def sync(self, part: Part) -> None:
        """Make one part what it should be. Raises what the kernel or the file system refuses."""
        self._syncs[part]()

    def readiness(self) -> Readiness | None:
        """Whether pods can be wired here; None before the network configuration was looked at."""
        if self._network_failure:
            return Readiness(
                ready=False, message=f"the network configuration cannot be written: {self._network_failure}"
            )
        if self._files.current:
            return Readiness(ready=True, message=f"pods get addresses of {spell(self._files.current)}")
        return Readiness(ready=False, message="waiting for a podCIDR") if self._network_seen else None

    def _cluster(self) -> Cluster | None:
        """The cluster, once its list is complete and this node is in it."""
        if not self._nodes.synced.is_set() or self.own_node() is None:
            return None
        cluster = members.read_cluster(self._nodes.snapshot().values())
        if not self._has_ipv6():
            cluster = members.without_ipv6(cluster, self._name)
        self._problems.report("nodes", cluster.problems)
        return cluster

    def _own(self) -> Member | None:
        cluster = self._cluster()
        return cluster.member(self._name) if cluster else None

    def _sync_forwarding(self) -> None:
        if sysctl.write("net/ipv4/ip_forward", 1):
            log.info("IPv4 forwarding switched on")
        if self.has_pods_of(6):
            self._keep_advertised_routes()
            if sysctl.write("net/ipv6/conf/all/forwarding", 1):
                log.info("IPv6 forwarding switched on")

    def _keep_advertised_routes(self) -> None:
        """A machine that forwards takes no default route from a router's advertisement, unless accept_ra is 2."""
        for route in self._host.netlink.routes(_ROUTER_ADVERTISEMENT):
            switch = f"net/ipv6/conf/{route.device}/accept_ra"
            if route.destination.prefixlen == 0 and sysctl.write(switch, 2):
                log.info("routers' advertisements stay heard", device=route.device)

    def _sync_network(self) -> None:
        own = self._own()
        if own is None:
            return
        try:
            self._write_network(own)
            self._network_failure, self._network_seen = "", True
        except OSError as error:
            self._network_failure = str(error)
            raise

    def _write_network(self, own: Member) -> None:
        if own.pod_cidrs:
            self._files.sync_plugin()  # who finds the configuration executes what it names
            mtus = [address.mtu_of(self._host.netlink, each) for each in own.addresses]
            mtu = min((mtu for mtu in mtus if mtu), default=_DEFAULT_MTU)
            self._files.sync(own.pod_cidrs, mtu, has_gates=self._gates.are_possible())

    def _sync_routes(self) -> None:
        cluster = self._cluster()
        if cluster:
            self._routes.sync(cluster)

    def _sync_masquerade(self) -> None:
        cluster = self._cluster()
        if cluster:
            for table in self._masquerades:
                table.sync(cluster)
