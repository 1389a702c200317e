"""The administrator's kubeconfig: everything kubectl needs, in one file only root can read."""

import base64
from pathlib import Path
from typing import Final

import msgspec

from dataplane import atomic_file

_NAME: Final = "podwire"


def render(server: str, authority: bytes, token: str) -> bytes:
    """A kubeconfig with one cluster, one user and one context."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": _NAME,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(authority).decode(),
                },
            }
        ],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": "admin"}}],
        "current-context": _NAME,
    }
    return msgspec.yaml.encode(config)


def write(path: Path, content: bytes) -> None:
    """Write the file if it would change."""
    try:
        if path.read_bytes() == content and path.stat().st_mode & 0o777 == 0o600:
            return
    except FileNotFoundError:
        pass
    atomic_file.write(path, content)
