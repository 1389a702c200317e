"""Which process is meant."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process for good: `started` is the moment it was made, in the kernel's ticks since the machine booted."""

    pid: int
    started: int

    def __str__(self) -> str:
        return f"{self.pid}@{self.started}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what str() wrote. Raises ValueError."""
        pid, _, started = text.partition("@")
        return cls(pid=int(pid), started=int(started))
