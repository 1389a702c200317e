"""Sandboxes wired by executing the node's CNI plugins, as a container runtime does it."""

from ipaddress import IPv4Interface
from pathlib import Path

from cni import invoke
from lab import topology
from lab.runner.record import SandboxRecord
from lab.runner.sandboxes import NetworkError


class PluginNetwork:
    """The network that the configuration of this node names; read anew each time, as it may not be there yet."""

    def __init__(self, *, conf_dir: Path, bin_dir: Path, cache_dir: Path) -> None:
        self._conf_dir = conf_dir
        self._runtime = invoke.Runtime([bin_dir], cache_dir)

    def attach(self, record: SandboxRecord) -> str:
        try:
            result = self._runtime.add(invoke.load_network(self._conf_dir), _sandbox(record))
            return str(IPv4Interface(result["ips"][0]["address"]).ip)
        except invoke.InvokeError as error:
            raise NetworkError(str(error)) from error
        except (KeyError, IndexError, ValueError) as error:
            raise NetworkError(f"the network plugin's result names no IPv4 address: {error!r}") from error

    def detach(self, record: SandboxRecord) -> None:
        try:
            self._runtime.delete(invoke.load_network(self._conf_dir), _sandbox(record))
        except invoke.NoNetwork as error:
            # What was never wired need not be unwired.
            if record.address:
                raise NetworkError(str(error)) from error
        except invoke.InvokeError as error:
            raise NetworkError(str(error)) from error

    def check(self, record: SandboxRecord) -> None:
        try:
            self._runtime.check(invoke.load_network(self._conf_dir), _sandbox(record))
        except invoke.InvokeError as error:
            raise NetworkError(str(error)) from error


def _sandbox(record: SandboxRecord) -> invoke.Sandbox:
    return invoke.Sandbox(
        container_id=record.container_id,
        netns=str(topology.path_of(record.netns)),
        arguments={
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": record.namespace,
            "K8S_POD_NAME": record.name,
            "K8S_POD_INFRA_CONTAINER_ID": record.container_id,
            "K8S_POD_UID": record.uid,
        },
    )
