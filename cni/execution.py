"""Running somebody else's plugin executable, once: the right environment in, a result or its error object out.

Used by the runtime's side (cni.invoke) and for IPAM plugins that this plugin delegates to.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from cni.spec import Command

DEADLINE_SECONDS = 60.0


class InvokeError(Exception):
    """A network cannot be used, or one of its plugins refused."""


class PluginFailed(InvokeError):
    """A plugin answered with an error object, or with nothing that can be read."""

    def __init__(self, plugin: str, command: Command, *, code: int, msg: str, details: str = "") -> None:
        super().__init__(plugin, command, code, msg, details)
        self.plugin, self.command, self.code, self.msg, self.details = plugin, command, code, msg, details

    def __str__(self) -> str:
        return f"{self.plugin} {self.command}: {self.msg}" + (f": {self.details}" if self.details else "")


def run(
    name: str, command: Command, *, environ: Mapping[str, str], stdin: bytes, bin_dirs: Sequence[Path]
) -> dict[str, Any]:
    """Run a plugin to its end and return its result. Raises PluginFailed. Its stderr goes to people only on failure."""
    path = _find(name, command, bin_dirs)
    try:
        done = subprocess.run(
            [path], env=environ, input=stdin, capture_output=True, timeout=DEADLINE_SECONDS, check=False
        )
    except OSError as error:
        raise PluginFailed(name, command, code=5, msg=f"cannot be started: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise PluginFailed(name, command, code=11, msg=f"no answer within {DEADLINE_SECONDS:g} s") from error
    if done.returncode:
        raise _failure(name, command, done)
    return _decoded(done.stdout)


def _find(name: str, command: Command, bin_dirs: Sequence[Path]) -> Path:
    for directory in bin_dirs:
        if "/" not in name and (path := directory / name).is_file():
            return path
    searched = ":".join(map(str, bin_dirs))
    raise PluginFailed(name, command, code=5, msg=f"plugin not found in {searched}")


def _failure(name: str, command: Command, done: subprocess.CompletedProcess[bytes]) -> PluginFailed:
    error = _decoded(done.stdout)
    if not isinstance(error.get("code"), int):
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        return PluginFailed(name, command, code=999, msg=f"exit {done.returncode}", details=said)
    return PluginFailed(
        name, command, code=error["code"], msg=str(error.get("msg")), details=str(error.get("details", ""))
    )


def _decoded(stdout: bytes) -> dict[str, Any]:
    """A plugin's answer; libcni too takes none and null as an empty one."""
    try:
        return msgspec.json.decode(stdout or b"null", type=dict[str, Any] | None) or {}
    except msgspec.MsgspecError:
        return {}
