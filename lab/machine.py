"""What a node's machine is made of, and how its processes are told apart. Pure.

A machine is a first process with private mounts, an empty /run and a process namespace of its own. When it ends, the
kernel ends every container, shim and daemon in it and takes the mounts away: taking a lab down cannot leave any.
"""

from typing import Final

_CONTAINERS: Final = "containers"

# A file below /run that /etc/resolv.conf leads to would be hidden with it, and containerd copies it for every pod.
_INIT: Final = """
set -e
names=$(cat /etc/resolv.conf 2>/dev/null || true)
mount -t tmpfs tmpfs /run
if [ ! -e /etc/resolv.conf ]; then
  file=$(readlink -m /etc/resolv.conf)
  mkdir -p "${file%/*}"
  printf '%s\\n' "$names" > "$file"
fi
trap 'exit 0' TERM INT
while :; do sleep 3600 & wait; done
"""


def argv() -> tuple[str, ...]:
    """Return the command that is a machine: it lives until it is ended, and all inside ends with it."""
    return ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", _INIT)


def role(node: str) -> str:
    return f"{node}/machine"


def containers_role(node: str) -> str:
    """Return what containerd of a node and its shims carry as their part. Shims outlive the daemon: it is not theirs."""
    return f"{node}/{_CONTAINERS}"


def is_of_containers(role: str) -> bool:
    return role.endswith(f"/{_CONTAINERS}")
