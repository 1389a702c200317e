"""What a container's image means here: one of the lab's own programs, or nothing but a name for its command."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kube.objects import Container, Pod
from lab import echo

ECHO: Final = "podwire/echo"
PAUSE: Final = "podwire/pause"

# Without site packages the interpreter starts in a third of the time.
_PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    ECHO: (sys.executable, "-I", "-S", str(Path(echo.__file__).resolve())),
    PAUSE: ("sleep", "infinity"),
}


class ImageError(Exception):
    """The lab cannot run this image. Says so the way a kubelet that must not pull does."""

    reason = "ErrImageNeverPull"

    def __init__(self, image: str) -> None:
        super().__init__(image)
        self.image = image

    def __str__(self) -> str:
        known = ", ".join(sorted(_PROGRAMS))
        return f"a lab has no image {self.image!r}: use {known}, or give the container a command of this machine"


def command(container: Container) -> tuple[str, ...]:
    """Return the program to run and its arguments. Raises ImageError."""
    if container.command:
        argv = container.command + container.args
    else:
        program = _PROGRAMS.get(_without_tag(container.image))
        if program is None:
            raise ImageError(container.image)
        argv = program + container.args
    return ("env", "-C", container.working_dir, *argv) if container.working_dir else argv


def _without_tag(image: str) -> str:
    """Strip registry defaults, digest and tag: docker.io/podwire/echo:1.2 is podwire/echo."""
    name = image.removeprefix("docker.io/").partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def variables(pod: Pod, container: Container, address: str) -> dict[str, str]:
    """Return what a container adds to its environment: who it is, and what its spec says."""
    fields = {
        "metadata.name": pod.metadata.name,
        "metadata.namespace": pod.metadata.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": pod.spec.node_name,
        "status.podIP": address,
    }
    own = {
        "HOSTNAME": pod.metadata.name,
        "POD_NAME": pod.metadata.name,
        "POD_NAMESPACE": pod.metadata.namespace,
        "POD_NODE": pod.spec.node_name,
        "POD_IP": address,
    }
    for variable in container.env:
        reference = variable.value_from.field_ref if variable.value_from else None
        own[variable.name] = variable.value if reference is None else fields.get(reference.field_path, "")
    return own
