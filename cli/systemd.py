"""Asks systemd, of this machine or of a file tree, to run podwire's units."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SETTLED: Final = 3.0  # a program that cannot start says so within this
_LOOK: Final = 0.25
_LOG_LINES: Final = 8


class SystemdError(Exception):
    """systemctl refused, or a unit does not stay up; with what it said."""

    def __init__(self, what: str, said: str) -> None:
        super().__init__(what, said)
        self.what, self.said = what, said

    def __str__(self) -> str:
        return f"{self.what}:\n{self.said}" if self.said else self.what


@dataclass(frozen=True, slots=True)
class Systemd:
    """`root` other than / is a tree without a running systemd: units are enabled there, and nothing is started."""

    root: Path

    @property
    def is_live(self) -> bool:
        return self.root == Path("/")

    def enable(self, units: Sequence[str]) -> None:
        if self.is_live:
            self._ask("daemon-reload")
        self._ask("enable", "--quiet", *units)

    def disable(self, units: Sequence[str]) -> None:
        self._ask("disable", "--quiet", *(("--now",) if self.is_live else ()), *units)

    def reload(self) -> None:
        if self.is_live:
            self._ask("daemon-reload")

    def start(self, units: Sequence[str], *, again: Sequence[str]) -> None:
        """Start what is not running and restart `again`; return when all have stayed up for a while."""
        if not self.is_live:
            return
        if again:
            self._ask("restart", *again)
        self._ask("start", *units)
        self._await_settled(units)

    def _await_settled(self, units: Sequence[str]) -> None:
        deadline = time.monotonic() + _SETTLED
        while time.monotonic() < deadline:
            for unit in units:
                self._check_up(unit)
            time.sleep(_LOOK)

    def _check_up(self, unit: str) -> None:
        state = self._ask("show", "--property=SubState", "--value", unit).strip()
        if state != "running":
            raise SystemdError(f"{unit} does not stay up ({state}); the end of its log", self._log(unit))

    def _log(self, unit: str) -> str:
        done = _run("journalctl", "--no-pager", "--output=cat", f"--lines={_LOG_LINES}", f"--unit={unit}")
        return done.stdout.rstrip()

    def _ask(self, verb: str, *arguments: str) -> str:
        place = () if self.is_live else (f"--root={self.root}",)
        done = _run("systemctl", *place, verb, *arguments)
        if done.returncode:
            raise SystemdError(f"systemctl {verb} {' '.join(arguments)}", done.stderr.strip())
        return done.stdout


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SystemdError(f"{argv[0]} is not on this machine", "podwire install needs systemd") from error
