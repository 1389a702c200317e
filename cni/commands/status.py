"""STATUS: would an ADD succeed now? (spec 1.1.0 §4, STATUS)

kubelet asks every few seconds, so this reads and changes nothing, and looks further only when the addresses run out.
"""

from cni import leftovers
from cni.conf import NetConf
from cni.delegation import Delegate
from cni.host import Host
from cni.spec import CniError, Code, Command
from ipam.leases import LeaseError
from ipam.pool import PoolExhausted

_RESERVE_MAX = 4
_RESERVE_PART = 16
"""A pool is as good as exhausted when this part of it, at most that many addresses, is all that is left: a pod that is
replaced holds its address until its successor has one."""


def status(conf: NetConf, host: Host, delegate: Delegate | None = None) -> None:
    _require_bridge(conf, host)
    if delegate:
        delegate.run(Command.STATUS)
        return
    used, size = _used(conf, host), sum(pool.size for pool in conf.pools)
    free, reserve = size - used, min(_RESERVE_MAX, size // _RESERVE_PART)
    if free > reserve:
        return
    # An ADD would first take back what vanished pods hold.
    free += len(leftovers.find(conf.name, conf.essentials.directory, host))
    if free <= reserve:
        raise _exhausted(conf, used=used, size=size)


def _require_bridge(conf: NetConf, host: Host) -> None:
    link = host.netlink.link(conf.bridge)
    if link and link.kind != "bridge":
        problem = f"this interface exists and is a {link.kind or 'device'}; name another"
        raise CniError(Code.NOT_AVAILABLE, f"no pod can be added: bridge={conf.bridge!r}", problem)


def _used(conf: NetConf, host: Host) -> int:
    try:
        with host.leases(conf.essentials.directory) as leases:
            given = leases.count(conf.name)
    except LeaseError as error:
        raise CniError(Code.NOT_AVAILABLE, "no pod can be added: the leases cannot be read", str(error)) from error
    networks = {pool.network for pool in conf.pools}
    return sum(number for network, number in given.items() if network in networks)


def _exhausted(conf: NetConf, *, used: int, size: int) -> CniError:
    if used >= size:
        told = PoolExhausted(*(pool.network for pool in conf.pools), used=used, size=size)
        return CniError(Code.NOT_AVAILABLE, f"no pod can be added: {told}")
    names = ", ".join(str(pool.network) for pool in conf.pools)
    msg = f"{names}: nearly exhausted, {used} of {size} addresses are in use"
    return CniError(Code.NOT_AVAILABLE, msg, "delete pods, or configure a larger range")
