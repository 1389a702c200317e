"""What a pod's wiring is called and consists of: names, MACs, routes. Pure, and the same on every call.

Everything can be recomputed from the attachment and its address, so a later call finds and removes what an earlier one
left behind, with no memory but the kernel's.

A pod's MAC follows from its address: whoever still has the address's former owner in an ARP cache reaches the new one.
"""

import hashlib
from collections.abc import Sequence
from ipaddress import IPv4Address, ip_interface

from cni.addressing import PodRoute
from cni.conf import NetConf
from cni.environment import Environment
from cni.gate import UNLIMITED, Bandwidth, Check, Gate
from cni.hostports import Publication
from cni.spec import CniError, Code
from dataplane.netlink.objects import Bridge, Route, VethEnd, VethPair
from ipam.address import Address, Interface
from ipam.lease import Attachment, Lease
from ipam.pool import Pool

ALIAS_MAX = 255  # IFALIASZ, include/uapi/linux/if.h, without the final NUL


def host_veth(attachment: Attachment) -> str:
    """The node's end: a prefix that is ours, and 48 bits of the attachment's hash."""
    return f"pw{attachment.digest.hex()[:12]}"


def host_mac(attachment: Attachment) -> str:
    """Locally administered, unicast; says of which network the veth is, which its name does not."""
    return _mac(_network_tag(attachment.network) + attachment.digest[6:9])


def is_mac_of(mac: str, network: str) -> bool:
    return mac.startswith(_mac(_network_tag(network)))


def _network_tag(network: str) -> bytes:
    return b"\x0e" + hashlib.sha256(network.encode()).digest()[:2]


def address_mac(address: Address) -> str:
    return _mac(b"\x0a\x58" + address.packed[-4:])


def _mac(octets: bytes) -> str:
    return octets.hex(":")


def owner(environment: Environment, aliases: Sequence[str] = ()) -> str:
    """Whose interface this is, for people: shown by `ip link` and in the lease file."""
    owner = environment.pod or f"{environment.container_id}/{environment.ifname}"
    return (f"{owner} ({', '.join(aliases)})" if aliases else owner)[:ALIAS_MAX]


def bridge(conf: NetConf) -> Bridge:
    return Bridge(name=conf.bridge, mac=address_mac(_gateway(conf.pools[0])), mtu=conf.mtu)


def bridge_addresses(conf: NetConf) -> tuple[Interface, ...]:
    """The gateways' addresses, which stand on the bridge."""
    if not conf.is_gateway:
        return ()
    return tuple(dict.fromkeys(ip_interface((_gateway(pool), pool.network.prefixlen)) for pool in conf.pools))


def _gateway(pool: Pool) -> Address:
    return pool.gateway or pool.network[1]


def pod_mac(lease: Lease) -> str:
    return lease.claim.mac or address_mac(lease.address)


def veth(conf: NetConf, lease: Lease, *, netns_fd: int) -> VethPair:
    attachment = lease.claim.attachment
    return VethPair(
        host=VethEnd(name=lease.claim.host_veth, mac=host_mac(attachment)),
        peer=VethEnd(name=attachment.ifname, mac=pod_mac(lease)),
        netns_fd=netns_fd,
        mtu=conf.mtu,
        master=conf.bridge,
        alias=lease.claim.owner,
        hairpin=conf.hairpin,
    )


def pod_routes(routes: Sequence[PodRoute], lease: Lease) -> tuple[Route, ...]:
    return tuple(
        Route(
            destination=route.destination,
            gateway=route.gateway or lease.gateway_of(route.destination.version),
            device=lease.claim.attachment.ifname,
            scope=route.scope,
            options=route.options,
        )
        for route in routes
    )


def gate(lease: Lease, check: Check, bandwidth: Bandwidth = UNLIMITED) -> Gate:
    return Gate(
        veth=lease.claim.host_veth,
        network=lease.claim.attachment.network,
        owner=lease.claim.owner,
        mac=pod_mac(lease),
        addresses=tuple(given.address for given in lease.addresses),
        check=check,
        bandwidth=bandwidth,
    )


def publication(conf: NetConf, lease: Lease) -> Publication | None:
    """The pod's hostPorts; None when it asks for none. Raises CniError 2 for a pod they cannot lead to."""
    if not conf.requests.ports:
        return None
    pod = next((given.address for given in lease.addresses if isinstance(given.address, IPv4Address)), None)
    if pod is None:
        msg = "unsupported field: runtimeConfig.portMappings"
        raise CniError(Code.UNSUPPORTED_FIELD, msg, "hostPorts need a pod with an IPv4 address")
    return Publication(
        veth=lease.claim.host_veth, network=conf.name, owner=lease.claim.owner, pod=pod, mappings=conf.requests.ports
    )
