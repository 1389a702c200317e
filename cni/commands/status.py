"""STATUS: would an ADD succeed now? (spec 1.1.0 §4, STATUS)

kubelet asks every few seconds, so this reads and changes nothing, and looks further only when the addresses run out.
"""

from collections.abc import Sequence

from cni import leftovers
from cni.conf import NetConf
from cni.delegation import Delegate
from cni.host import Host
from cni.spec import CniError, Code, Command
from ipam.leases import LeaseError, Usage
from ipam.pool import Pool, PoolExhausted

_RESERVE_MAX = 4
_RESERVE_PART = 16
"""A pool is as good as exhausted when this part of it, at most that many addresses, is all that is left: a pod that is
replaced holds its address until its successor has one."""


def status(conf: NetConf, host: Host, delegate: Delegate | None = None) -> None:
    _require_bridge(conf, host)
    if delegate:
        delegate.run(Command.STATUS)
        return
    left_over = None
    for usages in _usages(conf, host):
        used, size = sum(usage.used for usage in usages), sum(usage.size for usage in usages)
        reserve = min(_RESERVE_MAX, size // _RESERVE_PART)
        if size - used > reserve:
            continue
        # An ADD would first take back what vanished pods hold.
        if left_over is None:
            left_over = len(leftovers.find(conf.name, conf.essentials.directory, host))
        if size - used + left_over <= reserve:
            raise _exhausted([usage.pool for usage in usages], used=used, size=size)


def _require_bridge(conf: NetConf, host: Host) -> None:
    link = host.netlink.link(conf.bridge)
    if link and link.kind != "bridge":
        problem = f"this interface exists and is a {link.kind or 'device'}; name another"
        raise CniError(Code.NOT_AVAILABLE, f"no pod can be added: bridge={conf.bridge!r}", problem)


def _usages(conf: NetConf, host: Host) -> list[tuple[Usage, ...]]:
    """How full the pools of each list of ranges are: a pod needs an address from every list."""
    try:
        with host.leases(conf.essentials.directory) as leases:
            return [leases.usage(conf.name, pools) for pools in conf.addressing.ranges]
    except LeaseError as error:
        raise CniError(Code.NOT_AVAILABLE, "no pod can be added: the leases cannot be read", str(error)) from error


def _exhausted(pools: Sequence[Pool], *, used: int, size: int) -> CniError:
    if used >= size:
        told = PoolExhausted(*(pool.network for pool in pools), used=used, size=size)
        return CniError(Code.NOT_AVAILABLE, f"no pod can be added: {told}")
    names = ", ".join(str(pool.network) for pool in pools)
    msg = f"{names}: nearly exhausted, {used} of {size} addresses are in use"
    return CniError(Code.NOT_AVAILABLE, msg, "delete pods, or configure a larger range")
