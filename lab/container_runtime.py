"""The containerd of each node of a lab: what it needs beforehand, and what is asked of it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from dataplane import atomic_file
from lab import containerd, node_machine
from lab.errors import LabError
from lab.images import names, own
from lab.plan import Lab, NodePlan
from pods.cri.client import CriClient, CriError
from pods.cri.configs import Place
from pods.cri.runtime import CriRuntime
from pods.record import SandboxRecord

_PROGRAMS: Final = ("containerd", "ctr", "runc", "nsenter", "setpriv", "unshare")
_LOOPBACKS: Final = (Path("/usr/lib/cni/loopback"), Path("/opt/cni/bin/loopback"))
_REMEDY: Final = "Run: apt install containerd runc containernetworking-plugins busybox-static"
_PATIENCE: Final = 60.0  # seconds for an import


def prepare(lab: Lab) -> None:
    """Write what the nodes' containerds read. Raises LabError when the machine lacks something."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        raise LabError(f"containers need {', '.join(missing)}, and this machine has none", _REMEDY)
    if not lab.images.exists():
        draft = lab.images.with_suffix(".draft")
        own.write(draft)
        draft.replace(lab.images)
    for node in lab.nodes:
        node.cni_bin_dir.mkdir(parents=True, exist_ok=True)
        _link_loopback(node.cni_bin_dir / "loopback")
        atomic_file.write(node.containerd_config, _config(node).encode())


def _link_loopback(path: Path) -> None:
    """A pod's lo is brought up by executing a plugin of this name."""
    found = next((each for each in _LOOPBACKS if each.exists()), None)
    if found is None:
        raise LabError(
            f"containerd needs the CNI plugin loopback; none of {', '.join(map(str, _LOOPBACKS))} is there", _REMEDY
        )
    if not path.exists():
        path.unlink(missing_ok=True)
        path.symlink_to(found)


def _config(node: NodePlan) -> str:
    return containerd.config(
        root=node.directory / "containerd",
        socket=node.containerd_socket,
        bin_dir=node.cni_bin_dir,
        conf_dir=node.cni_conf_dir,
        snapshotter=_snapshotter(node.directory),
    )


def _snapshotter(directory: Path) -> str:
    """An overlay cannot lie on an overlay, which is what the files of a container are."""
    shown = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True, check=False)
    return "native" if "overlay" in shown.stdout else "overlayfs"


def answers(node: NodePlan) -> bool:
    return _ask(node, lambda client: client.conditions()["RuntimeReady"].status)


def is_ready(node: NodePlan) -> bool:
    """Say whether a node's containerd answers and has its network's configuration."""
    return _ask(node, lambda client: all(condition.status for condition in client.conditions().values()))


def has_images(node: NodePlan) -> bool:
    return _ask(node, lambda client: all(client.has_image(image) for image in (names.PAUSE, names.ECHO)))


def _ask(node: NodePlan, question: Callable[[CriClient], bool]) -> bool:
    """Ask once; a containerd that does not answer is a no."""
    client = CriClient(_endpoint(node))
    try:
        return question(client)
    except CriError:
        return False
    finally:
        client.close()


def import_images(lab: Lab, node: NodePlan) -> None:
    """Give a node the lab's images. May be repeated. Raises LabError."""
    argv = [
        "ctr",
        "--address",
        str(node.containerd_socket),
        "--namespace",
        "k8s.io",
        "images",
        "import",
        str(lab.images),
    ]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{node.name}: containerd takes no images within {_PATIENCE:.0f} s") from error
    if done.returncode:
        raise LabError(f"{node.name}: containerd refuses the images: {done.stderr.strip()}")


def sandboxes(lab: Lab, node: NodePlan) -> tuple[SandboxRecord, ...]:
    """Return the pods of a node with paths to their namespaces that work from here; none when containerd is away."""
    place = Place(node=node.name, hosts=tuple(map(str, node.addresses)), logs=node.pod_logs, cgroup_parent="")
    runtime = CriRuntime(CriClient(_endpoint(node)), place, pull=False)
    try:
        return tuple(_reachable(lab, node, record) for record in runtime.left())
    except (CriError, LabError):
        return ()
    finally:
        runtime.close()


def _reachable(lab: Lab, node: NodePlan, record: SandboxRecord) -> SandboxRecord:
    if not record.netns:
        return msgspec.structs.replace(record, netns=node.namespace)
    return msgspec.structs.replace(record, netns=node_machine.path_inside(lab.directory, node.name, record.netns))


def _endpoint(node: NodePlan) -> str:
    return f"unix://{node.containerd_socket}"
