"""Putting the plugin, and its IPAM for other plugins, where runtimes look for them.

Written under another name and renamed: a runtime sees the old executable or the new one, never half of one, and never
"text file busy".
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from cni import compiling, shim, spec
from dataplane import atomic_file

EXECUTABLE = spec.PLUGIN_TYPE
EXECUTABLES = (spec.PLUGIN_TYPE, spec.IPAM_TYPE)
AGENT_SECONDS = 20
"""How long the shim waits for the agent: longer than a call waits for an attachment that another one holds."""

_SHEBANG_MAX = 127  # BINPRM_BUF_SIZE before Linux 5.1


class InstallError(Exception):
    """The plugin cannot be written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"CNI plugin {self.path}: {self.reason}"


def install(bin_dir: Path, python: Path, socket_path: Path, *, compiled: bool = True) -> Path:
    """Write the executables; return the plugin's path. `python` is an interpreter that has podwire installed."""
    for name in EXECUTABLES:
        path = bin_dir / name
        try:
            atomic_file.write(path, render(python, socket_path, name, compiled=compiled), mode=0o755)
        except OSError as error:
            raise InstallError(path, f"{error.strerror}: {error.filename}") from error
    return bin_dir / EXECUTABLE


def render(
    python: Path,
    socket_path: Path,
    name: str = EXECUTABLE,
    *,
    compiled: bool = True,
    patience: int = AGENT_SECONDS,
) -> bytes:
    """The shim with its own name and paths: compiled if that is wanted and possible here, else a script."""
    own: dict[str, str | bytes | int] = {
        "python": str(python),
        "socket": str(socket_path),
        "plugin": name.encode(),
        "versions": msgspec.json.encode(spec.version_report()) + b"\n",
        "about": spec.about(name).encode(),
        "patience": patience,
    }
    return (_executable(own) if compiled else None) or _script(python, own)


def _executable(own: Mapping[str, str | bytes | int]) -> bytes | None:
    template = compiling.template()
    encoded = {key: value if isinstance(value, bytes) else str(value).encode() for key, value in own.items()}
    return compiling.filled(template, encoded) if template else None


def _script(python: Path, own: Mapping[str, str | bytes | int]) -> bytes:
    # Not the environment's link to the interpreter: that one looks for its environment first, which takes time.
    first = f"#!{python.resolve()} -IS"
    if len(first) > _SHEBANG_MAX or any(letter.isspace() for letter in str(python.resolve())):
        raise InstallError(python.resolve(), f"a #! line has room for {_SHEBANG_MAX} bytes and no white space")
    call = f"posix._exit(main({', '.join(map(repr, own.values()))}))"
    return "\n".join((first, Path(shim.__file__).read_text(encoding="utf-8"), "", call, "")).encode()
