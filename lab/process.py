"""Which process is meant."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process for good: `started` is the moment it was made, in the kernel's ticks since the machine booted."""

    pid: int
    started: int
