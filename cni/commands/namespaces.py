"""Opening the pod's namespace, and refusing the node's own before anything is done to it."""

from contextlib import AbstractContextManager

from cni.environment import Environment
from cni.host import Host, OpenNetns
from cni.spec import CniError, Code
from dataplane.errors import DataplaneError, NotFound
from ipam.lease import Sandbox


def open_sandbox(environment: Environment, host: Host) -> AbstractContextManager[OpenNetns]:
    """Open CNI_NETNS. The caller still has to refuse the node's own with `require_foreign`."""
    try:
        return host.open_netns(environment.netns)
    except DataplaneError as error:
        problem = "no such namespace" if isinstance(error, NotFound) else "not a network namespace"
        raise CniError(Code.INVALID_NETNS, f"CNI_NETNS={environment.netns!r}: {problem}", str(error)) from error


def require_foreign(environment: Environment, pod: OpenNetns, host: Host) -> None:
    if pod.identity == host.own_netns and not environment.may_share_netns:
        msg = "plugin's netns and netns from CNI_NETNS should not be the same"
        raise CniError(Code.INVALID_NETNS, msg, f"CNI_NETNS={environment.netns} is the node's own network namespace")


def sandbox_of(pod: OpenNetns, host: Host) -> Sandbox:
    return Sandbox(device=pod.identity.device, inode=pod.identity.inode, boot_id=host.boot_id)
