"""What the proxy must know of its own node, and what it was told by flags: all that is the same for every Service.

Most of it is rules in node.nft, so a node that changes its address costs one small text and no Service. Only its name,
zone and addresses take part in what a Service needs.
"""

from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any, Final

import msgspec

from kube import objects
from proxy.configuration import KubeProxyConfiguration
from proxy.model import VERSIONS, Address, Family, Network

PRIMARY: Final = "primary"
ZONE: Final = "topology.kubernetes.io/zone"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What flags decide. `nodeport_addresses` None is the node's own address, `pod_cidrs` None what its Node says."""

    node: str
    nodeport_addresses: tuple[Network, ...] | None = None
    pod_cidrs: tuple[Network, ...] | None = None
    pod_interface: str = ""
    masquerade_all: bool = False
    localhost_node_ports: bool = True


class Here(msgspec.Struct, frozen=True, kw_only=True):
    """This node, for one address family. Traffic of `pod_cidrs`, or from `pod_interface`, is its own pods'."""

    node: str
    zone: str = ""
    addresses: tuple[Address, ...] = ()
    pod_cidrs: tuple[Network, ...] = ()
    pod_interface: str = ""
    nodeport_addresses: tuple[Network, ...] = ()
    service_cidrs: tuple[Network, ...] = ()
    masquerade_all: bool = False
    localhost_node_ports: bool = True

    @property
    def decides(self) -> tuple[str, tuple[Address, ...]]:
        """What Services depend on."""
        return self.zone, self.addresses


def settings(configuration: KubeProxyConfiguration, node: str) -> Settings:
    """What a configuration says of the packet side."""
    modes: dict[str, Callable[[], dict[str, Any]]] = {
        "ClusterCIDR": lambda: {"pod_cidrs": _networks(configuration.cluster_cidrs)},
        "NodeCIDR": dict,
        "BridgeInterface": lambda: {"pod_interface": configuration.detect_local.bridge_interface},
        "InterfaceNamePrefix": lambda: {"pod_interface": f"{configuration.detect_local.interface_name_prefix}*"},
    }
    default = "ClusterCIDR" if configuration.cluster_cidrs else "NodeCIDR"
    addresses = configuration.node_port_addresses
    return Settings(
        node=node,
        nodeport_addresses=None if addresses in {(), (PRIMARY,)} else _networks(addresses),
        masquerade_all=configuration.nftables.masquerade_all,
        localhost_node_ports=configuration.iptables.localhost_node_ports,
        **modes[configuration.detect_local_mode or default](),
    )


def look(
    settings: Settings, node: objects.Node | None, service_cidrs: Iterable[objects.ServiceCIDR], family: Family
) -> Here:
    """Put together flags and objects; what no object says (yet) is empty."""
    version = VERSIONS[family]
    addresses = _addresses(node, version)
    said = (node.spec.pod_cidrs or (node.spec.pod_cidr,)) if node else ()
    pods = settings.pod_cidrs if settings.pod_cidrs is not None else _networks(said)
    return Here(
        node=settings.node,
        zone=node.metadata.labels.get(ZONE, "") if node else "",
        addresses=addresses,
        pod_cidrs=() if settings.pod_interface else _of(pods, version),
        pod_interface=settings.pod_interface,
        nodeport_addresses=_nodeport_addresses(settings, addresses, version),
        service_cidrs=_of(_service_networks(service_cidrs), version),
        masquerade_all=settings.masquerade_all,
        localhost_node_ports=settings.localhost_node_ports,
    )


def _addresses(node: objects.Node | None, version: int) -> tuple[Address, ...]:
    """The node's addresses, the first one first; only an InternalIP or ExternalIP is an address of its own."""
    found: list[Address] = []
    for kind in ("InternalIP", "ExternalIP"):
        for entry in node.status.addresses if node else ():
            address = _address(entry.address) if entry.type == kind else None
            if address is not None and address.version == version and address not in found:
                found.append(address)
    return tuple(found)


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _nodeport_addresses(settings: Settings, addresses: tuple[Address, ...], version: int) -> tuple[Network, ...]:
    if settings.nodeport_addresses is None:
        return tuple(ip_network(address) for address in addresses[:1])
    # kube-proxy: a family that the list does not speak of has all its addresses.
    return _of(settings.nodeport_addresses, version) or (ip_network("0.0.0.0/0" if version == 4 else "::/0"),)


def _service_networks(service_cidrs: Iterable[objects.ServiceCIDR]) -> Iterator[Network]:
    """What is unallocated in them is dropped: a range of everything would cut the node off."""
    networks = _networks(cidr for given in service_cidrs for cidr in given.spec.cidrs)
    return (network for network in networks if network.prefixlen)


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(network for text in texts if (network := _network(text)) is not None)


def _network(text: str) -> Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _of(networks: Iterable[Network], version: int) -> tuple[Network, ...]:
    return tuple(sorted({network for network in networks if network.version == version}))
