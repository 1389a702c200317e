"""CHECK: is the pod still wired as the ADD's result says?

What later plugins of the chain may change is compared with prevResult, which knows; the rest with the lease. Every
difference is named in one error.
"""

from collections.abc import Iterator
from dataclasses import replace

from cni import gate_table, port_table, wire_types, wiring
from cni.commands import namespaces
from cni.conf import NetConf
from cni.delegation import Delegate
from cni.environment import Environment
from cni.host import Host
from cni.spec import CniError, Code, Command
from dataplane.netlink.constants import RT_TABLE_MAIN
from dataplane.netlink.interface import Netlink
from ipam.lease import Attachment, Lease, State
from ipam.pool import Pool


def check(environment: Environment, conf: NetConf, host: Host, delegate: Delegate | None = None) -> None:
    if conf.previous is None:
        raise CniError(Code.INVALID_CONFIG, "prevResult is missing", "CHECK compares with the result of the ADD")
    lease = _lease(environment, conf, host)
    with namespaces.open_sandbox(environment, host) as pod:
        namespaces.require_foreign(environment, pod, host)
        if lease.claim.sandbox != namespaces.sandbox_of(pod, host):
            msg = f"CNI_NETNS={environment.netns!r} is not the namespace that {lease.listed} was given to"
            raise CniError(Code.CHECK_FAILED, msg, "delete and add the container")
        with host.inside(pod) as inside:
            problems = [
                *_promise_problems(environment, conf.previous, lease),
                *_port_problems(conf, lease, host),
                *_gate_problems(conf, lease, host),
                *_pod_problems(conf.previous, lease, inside),
                *_node_problems(_given(conf, lease) if delegate else conf, lease, host.netlink),
            ]
    if problems:
        msg = f"{lease.claim.attachment} is not wired as its result says"
        raise CniError(Code.CHECK_FAILED, msg, "; ".join(problems))
    if delegate:
        delegate.run(Command.CHECK)


def _given(conf: NetConf, lease: Lease) -> NetConf:
    """The configuration with the addresses another plugin gave to this pod as its only ones."""
    ranges = tuple(
        (Pool.of(one.network, first=one.address, last=one.address, gateway=one.gateway),) for one in lease.addresses
    )
    return replace(conf, addressing=replace(conf.addressing, ranges=ranges))


def _lease(environment: Environment, conf: NetConf, host: Host) -> Lease:
    attachment = Attachment(network=conf.name, container_id=environment.container_id, ifname=environment.ifname)
    with host.leases(conf.essentials.directory) as leases:
        lease = leases.find(attachment)
    if lease is None:
        raise CniError(Code.UNKNOWN_CONTAINER, f"{attachment} has no address here", "it was never added, or deleted")
    if lease.state is State.PENDING:
        raise CniError(Code.CHECK_FAILED, f"{attachment} was never finished", "delete and add the container")
    return lease


def _promise_problems(environment: Environment, previous: wire_types.PreviousResult, lease: Lease) -> Iterator[str]:
    if _interface(previous, environment.ifname) is None:
        yield f"prevResult.interfaces has no {environment.ifname} in a sandbox"
    promised = [ip.address for ip in previous.ips or ()]
    for interface in lease.interfaces:
        if str(interface) not in promised:
            yield f"prevResult.ips={promised!r} but the lease is {interface}"


def _interface(previous: wire_types.PreviousResult, ifname: str) -> wire_types.PreviousInterface | None:
    found = (entry for entry in previous.interfaces or () if entry.name == ifname and entry.sandbox)
    return next(found, None)


def _pod_problems(previous: wire_types.PreviousResult, lease: Lease, inside: Netlink) -> Iterator[str]:
    ifname = lease.claim.attachment.ifname
    link = inside.link(ifname)
    if link is None:
        yield f"{ifname} is gone from the pod"
        return
    if not link.up:
        yield f"{ifname} is down in the pod"
    promised = _interface(previous, ifname)
    if promised and promised.mac and promised.mac.lower() != link.mac:
        yield f"{ifname} has MAC {link.mac}, not {promised.mac}"
    held = {address.interface for address in inside.addresses(ifname)}
    yield from (f"{ifname} has lost {interface}" for interface in lease.interfaces if interface not in held)
    yield from _route_problems(previous, inside)


def _route_problems(previous: wire_types.PreviousResult, inside: Netlink) -> Iterator[str]:
    held = [(str(route.destination), str(route.gateway)) for route in inside.routes()]
    for route in previous.routes or ():
        if route.table in {None, RT_TABLE_MAIN} and not any(
            destination == route.dst and route.gw in {None, gateway} for destination, gateway in held
        ):
            yield f"the pod has no route to {route.dst}" + (f" via {route.gw}" if route.gw else "")


def _port_problems(conf: NetConf, lease: Lease, host: Host) -> Iterator[str]:
    publication = wiring.publication(conf, lease)
    if publication is None:
        return
    with host.nft() as nft:
        held = port_table.published(nft)
    if any(set(wanted) - set(held[name]) for name, wanted in publication.elements().items()):
        ports = ", ".join(map(str, publication.mappings))
        yield f"not every hostPort leads to the pod any more: it asked for {ports}"


def _gate_problems(conf: NetConf, lease: Lease, host: Host) -> Iterator[str]:
    with host.gates() as nft:
        yield from gate_table.problems(nft, wiring.gate(lease, conf.check, conf.requests.bandwidth))


def _node_problems(conf: NetConf, lease: Lease, netlink: Netlink) -> Iterator[str]:
    bridge = netlink.link(conf.bridge)
    if bridge is None:
        yield f"bridge {conf.bridge} is gone"
        return
    if not bridge.up:
        yield f"bridge {conf.bridge} is down"
    held = {address.interface for address in netlink.addresses(conf.bridge)}
    yield from (f"bridge {conf.bridge} has lost {one}" for one in wiring.bridge_addresses(conf) if one not in held)
    veth = netlink.link(lease.claim.host_veth)
    if veth is None:
        yield f"{lease.claim.host_veth} is gone from the node"
    elif veth.master != bridge.index:
        yield f"{veth.name} is not on bridge {conf.bridge}"
    elif not veth.up:
        yield f"{veth.name} is down"
