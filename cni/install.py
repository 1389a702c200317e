"""Putting the plugin, and its IPAM for other plugins, where runtimes look for them.

Written under another name and renamed: a runtime sees the old executable or the new one, never half of one, and never
"text file busy".
"""

from pathlib import Path

import msgspec

from cni import shim, spec
from dataplane import atomic_file

EXECUTABLE = spec.PLUGIN_TYPE
EXECUTABLES = (spec.PLUGIN_TYPE, spec.IPAM_TYPE)
_SHEBANG_MAX = 127  # BINPRM_BUF_SIZE before Linux 5.1


class InstallError(Exception):
    """The plugin cannot be written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"CNI plugin {self.path}: {self.reason}"


def install(bin_dir: Path, python: Path, socket_path: Path) -> Path:
    """Write the executables; return the plugin's path. `python` is an interpreter that has podwire installed."""
    for name in EXECUTABLES:
        path = bin_dir / name
        try:
            atomic_file.write(path, render(python, socket_path, name), mode=0o755)
        except OSError as error:
            raise InstallError(path, f"{error.strerror}: {error.filename}") from error
    return bin_dir / EXECUTABLE


def render(python: Path, socket_path: Path, name: str = EXECUTABLE) -> bytes:
    """The shim's text, with a #! line before it and its own name and paths behind it."""
    # Not the environment's link to the interpreter: that one looks for its environment first, which takes time.
    first = f"#!{python.resolve()} -IS"
    if len(first) > _SHEBANG_MAX or any(letter.isspace() for letter in str(python.resolve())):
        raise InstallError(python.resolve(), f"a #! line has room for {_SHEBANG_MAX} bytes and no white space")
    versions = msgspec.json.encode(spec.version_report()) + b"\n"
    own = ", ".join(map(repr, (str(python), str(socket_path), name.encode(), versions, spec.about(name).encode())))
    call = f"posix._exit(main({own}))"
    return "\n".join((first, Path(shim.__file__).read_text(encoding="utf-8"), "", call, "")).encode()
