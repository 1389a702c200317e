"""The lab's own images, made of this machine's files: busybox, and the interpreter with what the echo program needs.

Files keep the paths they have here, so the interpreter and the dynamic loader find their parts without being told.
"""

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from lab import echo
from lab.errors import LabError
from lab.images import names
from lab.images.oci import File, Image, Layer, archive

_ECHO_PATH: Final = "podwire/echo.py"
_PATIENCE: Final = 30.0  # seconds
# Says which files the program's modules came from, without running it.
_LIST_MODULES: Final = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("program", sys.argv[1])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
for module in sys.modules.values():
    for path in (getattr(module, "__file__", None), getattr(module, "__cached__", None)):
        if path:
            print(path)
"""


def write(path: Path) -> None:
    """Write a file with all of the lab's images. Raises LabError when this machine has not what they are made of."""
    path.write_bytes(archive(images()))


def images() -> tuple[Image, ...]:
    machine = platform.machine()
    base, python = _busybox(), _interpreter()
    program = (str(python), "-I", "-S", f"/{_ECHO_PATH}")
    return (
        Image(name=names.PAUSE, machine=machine, layers=(base,), entrypoint=("/bin/busybox", "sleep", "infinity")),
        Image(name=names.ECHO, machine=machine, layers=(base, _python(python)), entrypoint=program),
    )


def _interpreter() -> Path:
    """Return the interpreter itself: a virtual environment's is a link to it."""
    return Path(sys.executable).resolve()


def _busybox() -> Layer:
    busybox = shutil.which("busybox")
    if busybox is None or _libraries(Path(busybox)):
        raise LabError("images need a static busybox, and this machine has none", "Run: apt install busybox-static")
    applets = _output(busybox, "--list").split()
    return Layer(
        files={
            "bin/busybox": File(content=Path(busybox).read_bytes(), mode=0o755),
            "etc/passwd": File(content=b"root:x:0:0:root:/root:/bin/sh\n"),
        },
        links={f"bin/{applet}": "busybox" for applet in applets if applet != "busybox"},
        folders=("root", "tmp"),
    )


def _python(python: Path) -> Layer:
    """Return the interpreter, the libraries it is linked with and the modules the echo program imports."""
    source = Path(echo.__file__).resolve()
    named = _output(str(python), "-I", "-S", "-c", _LIST_MODULES, str(source)).splitlines()
    modules = {Path(path) for path in named if Path(path).exists()}
    linked = {python, *(module for module in modules if module.suffix == ".so")}
    libraries = {library for program in linked for library in _libraries(program)}
    found = _files(sorted({*modules, *linked, *libraries}))
    # The interpreter takes this folder for the sign that it has found its own; it complains when there is none.
    landmark = f"{sys.base_exec_prefix}/lib/python{sys.version_info.major}.{sys.version_info.minor}/lib-dynload"
    files = {**found, _ECHO_PATH: File(content=source.read_bytes())}
    return Layer(files=files, folders=(landmark.lstrip("/"),))


def _files(paths: Iterable[Path]) -> Mapping[str, File]:
    # A compiled module is used only while it knows its source's time.
    return {
        str(path).lstrip("/"): File(
            content=path.read_bytes(), mode=path.stat().st_mode & 0o755, modified=int(path.stat().st_mtime)
        )
        for path in paths
    }


def _libraries(program: Path) -> tuple[Path, ...]:
    """Return what the dynamic loader would load, and the loader itself; nothing for a static program."""
    words = [word for line in _output("ldd", str(program), check=False).splitlines() for word in line.split()]
    return tuple(Path(word) for word in words if word.startswith("/") and not word.endswith(":"))


def _output(*argv: str, check: bool = True) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=_PATIENCE, check=check).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise LabError(f"images cannot be made: {' '.join(argv[:2])}: {error}") from error
