"""Pods as the runtime is told of them: configurations of sandboxes and containers, and the labels they are found by.

Pure. The names of the labels are a kubelet's, so that crictl and others show pods by name; one more says that a
sandbox is ours, so that a kubelet's own are never touched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from kube.objects import Container, ContainerPort, Pod
from pods import environment
from pods.cri import runtime_pb2 as cri
from pods.record import SandboxRecord

NODE: Final = "podwire.dev/node"
UID: Final = "io.kubernetes.pod.uid"
POD_NAME: Final = "io.kubernetes.pod.name"
POD_NAMESPACE: Final = "io.kubernetes.pod.namespace"
CONTAINER_NAME: Final = "io.kubernetes.container.name"

_LONGEST_HOSTNAME: Final = 63
_PROTOCOLS: Final[Mapping[str, cri.Protocol]] = {"TCP": cri.TCP, "UDP": cri.UDP, "SCTP": cri.SCTP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a node's pods are: `node` names them as ours, `hosts` are the node's own addresses, the one that counts first."""

    node: str
    hosts: tuple[str, ...]
    logs: PurePath
    cgroup_parent: str

    def log_directory(self, uid: str) -> PurePath:
        return self.logs / uid

    def log_file(self, uid: str, container: str) -> PurePath:
        return self.log_directory(uid) / log_name(container)


def log_name(container: str) -> str:
    return f"{container}.log"


def ours(place: Place, uid: str | None = None) -> Mapping[str, str]:
    """Return the labels of all our sandboxes and containers, or of one pod's."""
    return {NODE: place.node} | ({} if uid is None else {UID: uid})


def sandbox(pod: Pod, place: Place) -> cri.PodSandboxConfig:
    """Return the configuration of a pod's sandbox. It is the same each time, so two can never be made for one pod."""
    meta = pod.metadata
    network = cri.NODE if pod.spec.host_network else cri.POD
    options = cri.NamespaceOption(network=network, pid=cri.CONTAINER, ipc=cri.POD)
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=meta.name, uid=meta.uid, namespace=meta.namespace),
        hostname="" if pod.spec.host_network else meta.name[:_LONGEST_HOSTNAME].rstrip("-."),
        log_directory=str(place.log_directory(meta.uid)),
        port_mappings=() if pod.spec.host_network else _port_mappings(pod),
        labels=_labels(pod, place),
        linux=cri.LinuxPodSandboxConfig(
            cgroup_parent=place.cgroup_parent,
            security_context=cri.LinuxSandboxSecurityContext(namespace_options=options),
        ),
    )


def container(pod: Pod, wanted: Container, place: Place, record: SandboxRecord) -> cri.ContainerConfig:
    """Return the configuration of a container's next start, which the record of its restarts numbers."""
    variables = environment.variables(pod, wanted, addresses=record.addresses, host=place.hosts[0])
    # A container is told by spec, not by sandbox, that it shares the node's network.
    network = cri.NODE if pod.spec.host_network else cri.POD
    options = cri.NamespaceOption(network=network, pid=cri.CONTAINER, ipc=cri.POD)
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=wanted.name, attempt=record.container(wanted.name).restarts),
        image=cri.ImageSpec(image=wanted.image),
        command=wanted.command,
        args=wanted.args,
        working_dir=wanted.working_dir,
        envs=[cri.KeyValue(key=key, value=value) for key, value in variables.items()],
        labels={**_labels(pod, place), CONTAINER_NAME: wanted.name},
        log_path=log_name(wanted.name),
        linux=cri.LinuxContainerConfig(security_context=cri.LinuxContainerSecurityContext(namespace_options=options)),
    )


def _labels(pod: Pod, place: Place) -> dict[str, str]:
    meta = pod.metadata
    return {**ours(place, meta.uid), POD_NAME: meta.name, POD_NAMESPACE: meta.namespace}


def _port_mappings(pod: Pod) -> list[cri.PortMapping]:
    ports = [port for each in pod.spec.containers or () for port in each.ports]
    return [_port_mapping(port) for port in ports if port.host_port]


def _port_mapping(port: ContainerPort) -> cri.PortMapping:
    return cri.PortMapping(
        protocol=_PROTOCOLS[port.protocol],
        container_port=port.container_port,
        host_port=port.host_port,
        host_ip=port.host_ip,
    )
