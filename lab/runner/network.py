"""Sandboxes wired by executing the node's CNI plugins, as a container runtime does it."""

from ipaddress import ip_interface
from pathlib import Path

from cni import invoke
from lab import topology
from lab.runner.sandboxes import NetworkError
from pods.record import SandboxRecord


class PluginNetwork:
    """The network that the configuration of this node names; read anew each time, as it may not be there yet."""

    def __init__(self, *, conf_dir: Path, bin_dir: Path, cache_dir: Path) -> None:
        self._conf_dir = conf_dir
        self._runtime = invoke.Runtime([bin_dir], cache_dir)

    def attach(self, record: SandboxRecord) -> tuple[str, ...]:
        try:
            result = self._runtime.add(invoke.load_network(self._conf_dir), _sandbox(record))
            return tuple(str(ip_interface(each["address"]).ip) for each in result["ips"])
        except invoke.InvokeError as error:
            raise NetworkError(str(error)) from error
        except (KeyError, TypeError, ValueError) as error:
            raise NetworkError(f"the network plugin's result names no address: {error!r}") from error

    def detach(self, record: SandboxRecord) -> None:
        try:
            self._runtime.delete(invoke.load_network(self._conf_dir), _sandbox(record))
        except invoke.NoNetwork as error:
            # What was never wired need not be unwired.
            if record.addresses:
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
        container_id=record.sandbox_id,
        netns=str(topology.path_of(record.netns)),
        arguments={
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": record.namespace,
            "K8S_POD_NAME": record.name,
            "K8S_POD_INFRA_CONTAINER_ID": record.sandbox_id,
            "K8S_POD_UID": record.uid,
        },
    )
