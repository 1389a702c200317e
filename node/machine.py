"""What this machine is called where Kubernetes shows it, and what it has."""

import platform
from importlib import metadata

from dataplane import sysctl
from dataplane.errors import NotFound
from node.registration import PROGRAM


def labels() -> dict[str, str]:
    return {"kubernetes.io/os": "linux", "kubernetes.io/arch": _architecture()}


def node_info() -> dict[str, str]:
    """The columns of `kubectl get nodes -o wide`, as a kubelet would fill them."""
    return {
        "kernelVersion": platform.release(),
        "osImage": _os_image(),
        "operatingSystem": "linux",
        "architecture": _architecture(),
        "kubeletVersion": f"{PROGRAM} {metadata.version('podwire')}",
    }


def has_ipv6() -> bool:
    """Whether this namespace may have IPv6 addresses: a kernel can be without, and it can be switched off."""
    try:
        return sysctl.read("net/ipv6/conf/all/disable_ipv6") == "0"
    except NotFound:
        return False


def _architecture() -> str:
    """Go's name, which is Kubernetes' name, for the machine."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
