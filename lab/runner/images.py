"""What a container's image means here: one of the lab's own programs, or nothing but a name for its command."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kube.objects import Container
from lab import echo
from pods.runtime import CannotStart

ECHO: Final = "podwire/echo"
PAUSE: Final = "podwire/pause"

# Without site packages the interpreter starts in a third of the time.
_PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    ECHO: (sys.executable, "-I", "-S", str(Path(echo.__file__).resolve())),
    PAUSE: ("sleep", "infinity"),
}


def command(container: Container) -> tuple[str, ...]:
    """Return the program to run and its arguments. Raises CannotStart, with the word of a kubelet that must not pull."""
    if container.command:
        argv = container.command + container.args
    else:
        program = _PROGRAMS.get(_without_tag(container.image))
        if program is None:
            known = ", ".join(sorted(_PROGRAMS))
            raise CannotStart(
                "ErrImageNeverPull",
                f"a lab has no image {container.image!r}: use {known}, or give the container a command of this machine",
            )
        argv = program + container.args
    return ("env", "-C", container.working_dir, *argv) if container.working_dir else argv


def _without_tag(image: str) -> str:
    """Strip registry defaults, digest and tag: docker.io/podwire/echo:1.2 is podwire/echo."""
    name = image.removeprefix("docker.io/").partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
