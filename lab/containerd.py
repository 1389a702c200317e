"""How containerd is told to be the runtime of one node among several on a machine. Pure.

Its content lies in a folder of the node, its sockets for clients too; what it mounts and what belongs to one boot is
below /run, which is the node's own.
"""

from pathlib import PurePath
from typing import Final

from lab.images import names

STATE: Final = "/run/containerd"

# The process may not lower oom_score_adj without CAP_SYS_RESOURCE, nor load AppArmor profiles inside a container;
# runc then ends with "can't get final child's PID".
_CONFIG: Final = """\
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{bin_dir}"
    conf_dir = "{conf_dir}"
    max_conf_num = 1
"""


def config(
    *, root: PurePath, socket: PurePath, bin_dir: PurePath, conf_dir: PurePath, snapshotter: str = "overlayfs"
) -> str:
    return _CONFIG.format(
        root=root,
        state=STATE,
        socket=socket,
        bin_dir=bin_dir,
        conf_dir=conf_dir,
        pause=names.PAUSE,
        snapshotter=snapshotter,
    )
