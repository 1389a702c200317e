"""The commands of `podwire-ipam`: leases, and nothing of the kernel.

The main plugin wires, so a lease is finished as soon as it is written. Nobody here can tell whether a pod still lives:
what a runtime forgets is taken back by its GC, and by the next boot.
"""

import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from cni import conf, result, spec, wiring
from cni.environment import Environment
from cni.ipam_plugin.conf import IpamConf, parse_directory, parse_ipam_conf
from cni.spec import CniError, Code, Command
from ipam.lease import Attachment, Claim, Lease, Sandbox
from ipam.leases import AlreadyLeased, LeaseError, Leases


class Place(Protocol):
    """The node, as far as addresses are concerned."""

    @property
    def boot_id(self) -> str: ...
    @property
    def leases(self) -> Callable[[Path], AbstractContextManager[Leases]]: ...


def serve(asked: Environment, document: Mapping[str, Any], open_place: Callable[[], Place]) -> dict[str, Any] | None:
    """Serve one call; the result of an ADD, None for the others."""
    essentials = conf.parse_essentials({key: document.get(key) for key in ("name", "cniVersion")})
    spec.require_version(essentials.version, asked.command)
    directory = parse_directory(document)
    attachment = Attachment(network=essentials.name, container_id=asked.container_id, ifname=asked.ifname)
    if asked.command is Command.DEL:
        _delete(attachment, directory, open_place())
    elif asked.command is Command.GC:
        _collect(conf.parse_valid_attachments(document, essentials.name), essentials.name, directory, open_place())
    elif asked.command is Command.ADD:
        return _add(asked, attachment, parse_ipam_conf(document, asked.arguments), open_place(), directory)
    elif asked.command is Command.CHECK:
        _check(attachment, parse_ipam_conf(document, {}), directory, open_place())
    else:
        _status(parse_ipam_conf(document, {}), directory, open_place())
    return None


def _add(asked: Environment, attachment: Attachment, ipam: IpamConf, place: Place, directory: Path) -> dict[str, Any]:
    claim = Claim(
        attachment=attachment,
        token=asked.request or secrets.token_hex(16),
        sandbox=Sandbox(device=0, inode=0, boot_id=place.boot_id),
        host_veth="",
        owner=wiring.owner(asked),
    )
    with place.leases(directory) as leases:
        leases.begin_boot(place.boot_id)
        lease = _assign(leases, ipam, claim)
        leases.activate(lease)
    return _result(ipam, lease)


def _assign(leases: Leases, ipam: IpamConf, claim: Claim) -> Lease:
    addressing = ipam.addressing
    try:
        return leases.assign(addressing.ranges, claim, wanted=ipam.wanted, cooldown=addressing.cooldown)
    except AlreadyLeased as error:
        # This very call was served before, but its answer was lost with the agent.
        if error.lease.claim.token == claim.token:
            return error.lease
        raise


def _result(ipam: IpamConf, lease: Lease) -> dict[str, Any]:
    number, routes = spec.parse_version(ipam.version), ipam.addressing.routes
    if number < (0, 3, 0):
        return {"cniVersion": ipam.version, **result.flat(lease.addresses, routes), "dns": dict(ipam.dns)}
    shown: dict[str, Any] = {
        "cniVersion": ipam.version,
        "ips": [result.address(each, number) for each in lease.addresses],
        "routes": [result.route(each) for each in routes],
    }
    return {**shown, "dns": ipam.dns} if ipam.dns else shown


def _delete(attachment: Attachment, directory: Path, place: Place) -> None:
    with place.leases(directory) as leases:
        if lease := leases.find(attachment):
            leases.release(lease)


def _check(attachment: Attachment, ipam: IpamConf, directory: Path, place: Place) -> None:
    with place.leases(directory) as leases:
        lease = leases.find(attachment)
    if lease is None:
        raise CniError(Code.UNKNOWN_CONTAINER, f"{attachment} has no address here", "it was never added, or deleted")
    if ipam.previous is None or ipam.previous.ips is None:
        return
    promised = [ip.address for ip in ipam.previous.ips]
    if lost := [str(interface) for interface in lease.interfaces if str(interface) not in promised]:
        msg = f"{attachment}: the lease has {', '.join(lost)}, prevResult.ips={promised!r} has not"
        raise CniError(Code.CHECK_FAILED, msg, "delete and add the container")


def _collect(valid: frozenset[Attachment] | None, network: str, directory: Path, place: Place) -> None:
    """A configuration without the list says nothing about who is valid; an empty list says that nobody is."""
    with place.leases(directory) as leases:
        leases.begin_boot(place.boot_id)
        for lease in leases.of(network) if valid is not None else ():
            if lease.claim.attachment not in (valid or ()):
                leases.release(lease)


def _status(ipam: IpamConf, directory: Path, place: Place) -> None:
    try:
        with place.leases(directory) as leases:
            usages = [leases.usage(ipam.name, pools) for pools in ipam.addressing.ranges]
    except LeaseError as error:
        raise CniError(Code.NOT_AVAILABLE, "no pod can be added: the leases cannot be read", str(error)) from error
    for alternatives in usages:
        if not sum(usage.free for usage in alternatives):
            told = "; ".join(
                f"{usage.used} of {usage.size} addresses of {usage.pool.network}" for usage in alternatives
            )
            msg = f"no pod can be added: {told} are in use"
            raise CniError(Code.NOT_AVAILABLE, msg, "delete pods, or configure a larger range")
