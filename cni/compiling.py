"""The shim as machine code, where there is a compiler: an interpreter takes longer to start than the call to be served.

Compiled once a process, with room for what differs from one installation to another; that is written in afterwards.
"""

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
ROOMS = {"python": 1024, "socket": 256, "plugin": 64, "versions": 512, "about": 512, "patience": 16}
_COMPILERS = ("cc", "gcc", "clang")
_OPTIONS = ("-std=c11", "-O2", "-s", *(f"-D{name.upper()}_ROOM={size}" for name, size in ROOMS.items()))
_SECONDS = 60


@functools.cache
def template() -> bytes | None:
    """The executable without its values; None when this machine cannot make one that runs."""
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory(prefix="podwire-shim-") as directory:
        made = Path(directory) / "shim"
        # Without the loader's work it starts in half the time; not every machine has the library for it.
        is_made = any(_succeeds(compiler, *_OPTIONS, *kind, "-o", str(made), str(SOURCE)) for kind in (["-static"], []))
        return made.read_bytes() if is_made and _succeeds(str(made)) else None


def _succeeds(*argv: str) -> bool:
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_SECONDS, env={"PATH": "/usr/bin:/bin"}, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def filled(template: bytes, values: Mapping[str, bytes]) -> bytes | None:
    """The executable with its values; None when one is too long for its room."""
    for name, value in values.items():
        if len(value) >= ROOMS[name]:
            return None
        start = template.index(f"@{name}@".encode())
        template = template[:start] + value.ljust(ROOMS[name], b"\0") + template[start + ROOMS[name] :]
    return template
