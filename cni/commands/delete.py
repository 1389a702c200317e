"""DEL: unwire the pod and give its address back; what is already gone is success.

Works on the node's side alone. Deleting the node's end of the veth removes the pod's end wherever it is, so a path in
CNI_NETNS that by now leads to another process's namespace (a pid is reused, above all after a reboot) is harmless.
"""

from cni import leftovers, locks, wiring
from cni.commands import namespaces
from cni.conf import Essentials
from cni.delegation import Delegate
from cni.environment import Environment
from cni.host import Host
from cni.spec import CniError, Command
from ipam.lease import Attachment, Lease


def delete(environment: Environment, essentials: Essentials, host: Host, delegate: Delegate | None = None) -> None:
    attachment = Attachment(network=essentials.name, container_id=environment.container_id, ifname=environment.ifname)
    directory = essentials.directory
    with locks.attachment_lock(directory, attachment), host.leases(directory) as leases:
        lease = leases.find(attachment)
        _refuse_own_netns(environment, lease, host)
        if lease:
            leftovers.remove(host, leases, lease, delegate)
        else:
            # The lease file may have been lost while the pod lived.
            leftovers.unwire(host, wiring.host_veth(attachment))
            if delegate:
                delegate.run(Command.DEL)


def _refuse_own_netns(environment: Environment, lease: Lease | None, host: Host) -> None:
    if lease or not environment.netns:
        return  # a lease proves that the pod was elsewhere: the path went stale
    try:
        sandbox = namespaces.open_sandbox(environment, host)
    except CniError:
        return  # gone, as it may be
    with sandbox as pod:
        namespaces.require_foreign(environment, pod, host)
