"""Keeps what a container runtime needs on this node: the network configuration and the plugin it names."""

import os
from dataclasses import dataclass
from pathlib import Path

import structlog

from cni import install
from dataplane import atomic_file
from dataplane.netlink.objects import Network
from ipam.cidrs import spell
from node import conflist
from node.conflist import PodNetwork

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where a runtime looks, and where the plugin keeps its leases."""

    conf_dir: Path
    bin_dir: Path
    leases: Path
    socket: Path
    python: Path  # an interpreter that has podwire installed

    @property
    def conflist(self) -> Path:
        return self.conf_dir / conflist.FILE_NAME


class PodNetworkFiles:
    """`current` are the podCIDRs of the configuration in place, once this agent has seen that it is right."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self.current: tuple[Network, ...] = ()

    def sync(self, pod_cidrs: tuple[Network, ...], mtu: int, *, has_gates: bool = True) -> None:
        network = PodNetwork(pod_cidrs=pod_cidrs, mtu=mtu, directory=self._paths.leases, has_gates=has_gates)
        wanted, found = conflist.render(network), atomic_file.read(self._paths.conflist)
        if wanted != found:
            self._warn_of_move(found, pod_cidrs)
            atomic_file.write(self._paths.conflist, wanted, mode=0o644)
            path, given = str(self._paths.conflist), spell(pod_cidrs)
            log.info("network configuration written", path=path, pod_cidrs=given, mtu=mtu)
        self.current = pod_cidrs

    def sync_plugin(self) -> None:
        """Install the plugins when one is absent or another one than ours."""
        if not all(map(self._is_installed, install.EXECUTABLES)):
            path = install.install(self._paths.bin_dir, self._paths.python, self._paths.socket)
            log.info("plugin installed", path=str(path))

    def _is_installed(self, name: str) -> bool:
        path = self._paths.bin_dir / name
        text = install.render(self._paths.python, self._paths.socket, name)
        return atomic_file.read(path) == text and os.access(path, os.X_OK)

    def _warn_of_move(self, found: bytes, pod_cidrs: tuple[Network, ...]) -> None:
        left = conflist.pod_cidrs(found) - set(pod_cidrs)
        if left:
            log.warning(
                "the podCIDR of this node has changed: new pods get addresses of the new one, other nodes no longer reach"
                " pods with addresses of the old one; recreate those",
                old=", ".join(sorted(map(str, left))),
                new=spell(pod_cidrs),
            )
