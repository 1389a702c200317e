"""ADD: give the pod an address and wire it to the bridge.

    lease pending → bridge → gate → veth → address, link up, routes in the pod → masquerade → lease active

A failure at any step takes everything back. A kill at any step leaves a pending lease, and perhaps a veth, which the
next ADD or DEL of the attachment, or a sweep, removes.
"""

import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cni import delegation, gate_table, hostports, leftovers, locks, port_table, rebuilding, result, wiring
from cni.commands import namespaces
from cni.conf import NetConf
from cni.delegation import Delegate
from cni.environment import Environment
from cni.host import Host, OpenNetns, addresses_of
from cni.hostports import PortTaken, Publication
from cni.spec import CniError, Code, Command, invalid
from dataplane.errors import AlreadyExists, DataplaneError
from dataplane.netlink.interface import Netlink
from dataplane.netlink.objects import InterfaceAddress, Link
from ipam.lease import Attachment, Claim, Lease, Sandbox, State
from ipam.leases import LeaseError, Leases
from ipam.pool import AddressInUse, PoolExhausted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One ADD under way: everything it holds."""

    environment: Environment
    conf: NetConf
    host: Host
    leases: Leases
    pod: OpenNetns
    inside: Netlink
    claim: Claim
    delegate: Delegate | None


def add(environment: Environment, conf: NetConf, host: Host, delegate: Delegate | None = None) -> result.Result:
    attachment = Attachment(network=conf.name, container_id=environment.container_id, ifname=environment.ifname)
    directory = conf.essentials.directory
    with contextlib.ExitStack() as held:
        pod = held.enter_context(namespaces.open_sandbox(environment, host))
        namespaces.require_foreign(environment, pod, host)
        held.enter_context(locks.attachment_lock(directory, attachment))
        call = _Call(
            environment=environment,
            conf=conf,
            host=host,
            leases=held.enter_context(host.leases(directory)),
            pod=pod,
            inside=held.enter_context(host.inside(pod)),
            claim=_claim(attachment, environment, conf, sandbox=namespaces.sandbox_of(pod, host)),
            delegate=delegate,
        )
        return _attach(call)


def _claim(attachment: Attachment, environment: Environment, conf: NetConf, *, sandbox: Sandbox) -> Claim:
    return Claim(
        attachment=attachment,
        token=environment.request or os.urandom(16).hex(),
        sandbox=sandbox,
        host_veth=wiring.host_veth(attachment),
        owner=wiring.owner(environment, conf.requests.aliases),
        mac=conf.requests.mac,
    )


def _attach(call: _Call) -> result.Result:
    call.leases.begin_boot(call.host.boot_id)
    # A lease file that was lost must not cost the pods that live their addresses.
    call.leases.adopt_if_new(
        call.conf.name, lambda: rebuilding.survivors_of(call.host, call.conf.name, call.conf.bridge)
    )
    _require_unattached(call)
    if call.delegate is None:
        return _connect(call)
    answer = _ask(call.delegate)
    try:
        return _connect(replace(call, conf=delegation.given(call.conf, answer, call.delegate.plugin)))
    except BaseException as error:
        _give_back(call.delegate, error)
        raise


def _ask(delegate: Delegate) -> Mapping[str, Any]:
    """The other plugin's addresses. A call killed in the middle may have left it some that podwire never learnt of."""
    with contextlib.suppress(CniError):
        return delegate.run(Command.ADD)
    with contextlib.suppress(CniError):
        delegate.run(Command.DEL)
    return delegate.run(Command.ADD)


def _give_back(delegate: Delegate, error: BaseException) -> None:
    try:
        delegate.run(Command.DEL)
    except CniError as failed:
        error.add_note(f"and the address could not be given back: {failed}")


def _connect(call: _Call) -> result.Result:
    bridge = ensure_bridge(call.conf, call.host)
    lease = _assign(call)
    try:
        _wire(call, lease)
        call.leases.activate(lease)
    except BaseException as error:
        _take_back(call, lease, error)
        raise
    return result.of(call.conf, lease, netns=call.environment.netns, bridge=bridge)


def _require_unattached(call: _Call) -> None:
    """Refuse a second ADD (spec §4, ADD); remove what an earlier, unfinished one left behind."""
    lease = call.leases.find(call.claim.attachment)
    is_taken = call.inside.link(call.environment.ifname) is not None
    if is_taken and (lease is None or _is_finished(lease, call.claim)):
        raise _already_attached(call, lease)
    call.host.netlink.delete_link(call.claim.host_veth)
    if lease:
        leftovers.remove(call.host, call.leases, lease, call.delegate)
    if is_taken and call.inside.link(call.environment.ifname):
        raise _already_attached(call, None)


def _is_finished(lease: Lease, claim: Claim) -> bool:
    # The same token: this very call was served before, but its answer was lost with the agent.
    return lease.state is State.ACTIVE and lease.claim.sandbox == claim.sandbox and lease.claim.token != claim.token


def _already_attached(call: _Call, lease: Lease | None) -> CniError:
    environment = call.environment
    origin = f"an earlier ADD gave it {lease.listed}" if lease else "it is not podwire's"
    msg = f"CNI_IFNAME={environment.ifname!r} already exists in {environment.netns}"
    return CniError(Code.ALREADY_ATTACHED, msg, f"{origin}; call DEL for {environment.container_id} first")


def _assign(call: _Call) -> Lease:
    try:
        return _assign_once(call)
    except (PoolExhausted, AddressInUse):
        if not leftovers.sweep(call.conf.name, call.conf.essentials.directory, call.host):
            raise
        return _assign_once(call)


def _assign_once(call: _Call) -> Lease:
    # Another plugin was asked for wanted addresses itself.
    wanted = () if call.delegate else call.conf.requests.addresses
    addressing = call.conf.addressing
    return call.leases.assign(addressing.ranges, call.claim, wanted=wanted, cooldown=addressing.cooldown)


def ensure_bridge(conf: NetConf, host: Host) -> Link:
    """The network's bridge, up and with its gateways' addresses. Several calls may do this at once."""
    bridge = _bridge(conf, host)
    if bridge.kind != "bridge":
        raise invalid("bridge", conf.bridge, f"this interface exists and is a {bridge.kind or 'device'}; name another")
    if not bridge.up:
        host.netlink.set_up(conf.bridge)
    held = {address.interface for address in host.netlink.addresses(conf.bridge)}
    for interface in wiring.bridge_addresses(conf):
        if interface not in held:
            with contextlib.suppress(AlreadyExists):
                host.netlink.add_address(conf.bridge, InterfaceAddress(interface=interface))
    if conf.is_gateway:
        for version in sorted({pool.network.version for pool in conf.pools}):
            host.enable_forwarding(version)
    return bridge


def _bridge(conf: NetConf, host: Host) -> Link:
    if found := host.netlink.link(conf.bridge):
        return found
    with contextlib.suppress(AlreadyExists):
        host.netlink.create_bridge(wiring.bridge(conf))
    if made := host.netlink.link(conf.bridge):
        return made
    raise CniError(Code.TRY_AGAIN_LATER, f"bridge={conf.bridge!r} vanished while it was made", "try again")


def _wire(call: _Call, lease: Lease) -> None:
    ifname = call.environment.ifname
    gate = wiring.gate(lease, call.conf.check, call.conf.requests.bandwidth)
    if not gate.is_open:  # before the port is there: it never passes what it shall not
        with call.host.gates() as nft:
            gate_table.put_up(nft, gate)
    call.host.netlink.create_veth(wiring.veth(call.conf, lease, netns_fd=call.pod.fd))
    for interface in lease.interfaces:
        _add_address(call, InterfaceAddress(interface=interface))
    call.inside.set_up("lo")
    call.inside.set_up(ifname)
    for route in wiring.pod_routes(call.conf.addressing.routes, lease):
        # Two interfaces of one network: the first keeps the way.
        with contextlib.suppress(AlreadyExists):
            call.inside.add_route(route)
    if call.conf.masquerade:
        call.host.masquerade(pool.network for pool in call.conf.pools)
    _publish(call, lease)


def _publish(call: _Call, lease: Lease) -> None:
    """The hostPorts. A port may still belong to a pod that vanished without a DEL."""
    publication = wiring.publication(call.conf, lease)
    if publication is None:
        return
    try:
        _publish_once(call, publication)
    except PortTaken:
        if not leftovers.sweep(call.conf.name, call.conf.essentials.directory, call.host):
            raise
        _publish_once(call, publication)


def _publish_once(call: _Call, publication: Publication) -> None:
    with call.host.nft() as nft:
        port_table.publish(nft, publication)
    if hostports.udp_ports(publication.elements()):
        with call.host.udp_flows() as flows:
            port_table.forget_old(flows, publication, addresses_of(call.host.netlink))


def _add_address(call: _Call, address: InterfaceAddress) -> None:
    ifname = call.environment.ifname
    try:
        call.inside.add_address(ifname, address)
    except DataplaneError as error:
        # Some runtimes switch IPv6 off in every namespace they make; the configuration asks for it.
        if error.code != errno.EACCES or address.interface.version != 6:
            raise
        call.host.enable_ipv6(call.pod, ifname)
        call.inside.add_address(ifname, address)


def _take_back(call: _Call, lease: Lease, error: BaseException) -> None:
    try:
        leftovers.remove(call.host, call.leases, lease)
    except (CniError, DataplaneError, LeaseError) as failed:
        error.add_note(f"and could not be undone: {failed}; a DEL or the next sweep will")
