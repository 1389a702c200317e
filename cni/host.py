"""The node as the commands see it: every effect they have goes through here, so tests can stand in the way of each."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cni import gate, masquerade
from cni.loaded_texts import LoadedTexts
from cni.port_table import UdpFlows
from dataplane.netlink.interface import Netlink
from dataplane.netlink.objects import Address
from dataplane.netns import Identity
from dataplane.nft.interface import Nft
from dataplane.nft.objects import Table
from ipam.address import Network
from ipam.leases import Leases

if TYPE_CHECKING:
    from dataplane.nft.linux import LinuxNft


class OpenNetns(Protocol):
    """A namespace held open."""

    @property
    def fd(self) -> int: ...
    @property
    def identity(self) -> Identity: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a command may do to the node.

    `netlink` speaks in the node's own namespace. `open_netns` raises NotFound for a path that leads to no namespace.
    `nft` lends the plugin's table of the IP family, `gates` that of the bridge family. `inside` lends a netlink that speaks in a pod's namespace. `addresses_in` tells the addresses in
    each of the given namespaces that exists. A Host serves one thread, because a lease file does.
    """

    netlink: Netlink
    own_netns: Identity
    boot_id: str
    open_netns: Callable[[str], AbstractContextManager[OpenNetns]]
    inside: Callable[[OpenNetns], AbstractContextManager[Netlink]]
    leases: Callable[[Path], AbstractContextManager[Leases]]
    masquerade: Callable[[Iterable[Network]], None]
    nft: Callable[[], AbstractContextManager[Nft]]
    gates: Callable[[], AbstractContextManager[Nft]]
    udp_flows: Callable[[], AbstractContextManager[UdpFlows]]
    enable_forwarding: Callable[[int], None]  # for IPv4 (4) or IPv6 (6)
    enable_ipv6: Callable[[OpenNetns, str], None]  # on an interface in a pod's namespace
    addresses_in: Callable[[Iterable[Identity]], Mapping[Identity, frozenset[Address]]]
    close: Callable[[], None]


class KeptLeases:
    """Keeps lease files open from one call to the next.

    The last one to close a SQLite file writes its log back and waits for the disk: half the time of a call.
    """

    def __init__(self) -> None:
        self._kept: dict[Path, Leases] = {}

    def open(self, directory: Path) -> AbstractContextManager[Leases]:
        kept = self._kept.get(directory)
        if kept is None or not kept.is_current():
            self._forget(directory)
            kept = self._kept[directory] = Leases(directory)
        return nullcontext(kept)

    def _forget(self, directory: Path) -> None:
        if kept := self._kept.pop(directory, None):
            kept.close()

    def close(self) -> None:
        for directory in tuple(self._kept):
            self._forget(directory)


class KeptTables:
    """Keeps doors to nft tables open from one call to the next.

    A socket that has deleted something waits in its close for the kernel to free it: as long as deleting a link takes.
    """

    def __init__(self) -> None:
        self._kept: dict[Table, LinuxNft] = {}

    def lend(self, table: Table) -> AbstractContextManager[Nft]:
        from dataplane.nft.linux import LinuxNft  # libnftables takes its time to load

        if table not in self._kept:
            self._kept[table] = LinuxNft(table)
        return nullcontext(self._kept[table])

    def close(self) -> None:
        while self._kept:
            self._kept.popitem()[1].close()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePlace:
    """What the IPAM plugin needs of a node: no netlink, whose import is ten times what an address costs."""

    boot_id: str
    leases: Callable[[Path], AbstractContextManager[Leases]]


def lease_place() -> LeasePlace:
    from dataplane import netns

    return LeasePlace(boot_id=netns.boot_id(), leases=Leases)


def linux_host(loaded: LoadedTexts | None = None) -> Host:
    """The calling thread's own namespace and the real kernel. Threads of one namespace may share what is loaded."""
    # A call that is refused before it touches the kernel shall not wait for these.
    from dataplane import living_namespaces, netns
    from dataplane.netlink.linux import LinuxNetlink

    @contextmanager
    def inside(pod: OpenNetns) -> Iterator[Netlink]:
        netlink = LinuxNetlink(pod.fd)
        try:
            yield netlink
        finally:
            netlink.close()

    def addresses_in(wanted: Iterable[Identity]) -> Mapping[Identity, frozenset[Address]]:
        places = living_namespaces.living()
        found: dict[Identity, frozenset[Address]] = {}
        for identity in set(wanted):
            if place := places.get((identity.device, identity.inode)):
                with netns.open_netns(str(place)) as pod, inside(pod) as netlink:
                    found[identity] = addresses_of(netlink)
        return found

    netlink, leases, tables = LinuxNetlink(), KeptLeases(), KeptTables()

    def close() -> None:
        leases.close()
        tables.close()
        netlink.close()

    return Host(
        netlink=netlink,
        own_netns=netns.current_identity(),
        boot_id=netns.boot_id(),
        open_netns=netns.open_netns,
        inside=inside,
        leases=leases.open,
        masquerade=partial(_masquerade, tables, loaded or loaded_texts()),
        nft=partial(tables.lend, masquerade.TABLE),
        gates=partial(tables.lend, gate.TABLE),
        udp_flows=_udp_flows,
        enable_forwarding=_enable_forwarding,
        enable_ipv6=_enable_ipv6,
        addresses_in=addresses_in,
        close=close,
    )


def addresses_of(netlink: Netlink) -> frozenset[Address]:
    """Every address in a namespace."""
    return frozenset(held.interface.ip for link in netlink.links() for held in netlink.addresses(link.name))


def loaded_texts() -> LoadedTexts:
    """What the hosts of one namespace remember together."""
    return LoadedTexts(chain=masquerade.CHAIN, set_name=masquerade.SUBNETS)


def _enable_forwarding(version: int) -> None:
    from dataplane import sysctl

    sysctl.write("net/ipv4/ip_forward" if version == 4 else "net/ipv6/conf/all/forwarding", 1)


def _enable_ipv6(pod: OpenNetns, ifname: str) -> None:
    from dataplane import netns, sysctl

    netns.run_in(pod.fd, lambda: sysctl.write(f"net/ipv6/conf/{ifname}/disable_ipv6", 0))


def _masquerade(tables: KeptTables, loaded: LoadedTexts, subnets: Iterable[Network]) -> None:
    for table, text in masquerade.render(subnets).items():
        with tables.lend(table) as nft:
            loaded.load(nft, text)


@contextmanager
def _udp_flows() -> Iterator[UdpFlows]:
    from dataplane.conntrack import Conntrack  # only pods with UDP hostPorts need it

    with closing(Conntrack()) as conntrack:
        yield conntrack
