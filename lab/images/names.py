"""What the lab's own images are called, completely, as runtimes keep them."""

from typing import Final

ECHO: Final = "docker.io/podwire/echo:latest"
PAUSE: Final = "docker.io/podwire/pause:latest"
