"""What a plugin answered to one call. Pure."""

import json
from dataclasses import dataclass
from typing import Any

_SHOWN = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Exit code, stdout and stderr as they came. `exit_code` is None when the call was not over in time."""

    exit_code: int | None
    stdout: bytes
    stderr: bytes = b""

    @property
    def is_success(self) -> bool:
        return self.exit_code == 0

    @property
    def json(self) -> Any:
        """The one JSON document on stdout; None when there is anything else."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            return None

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object on stdout; empty when there is none."""
        return self.json if isinstance(self.json, dict) else {}

    def __str__(self) -> str:
        if self.exit_code is None:
            return "no answer in time"
        return f"exit {self.exit_code}, {self._output()}"

    def _output(self) -> str:
        if not self.stdout.strip():
            return "no output"
        if "code" in self.body or "msg" in self.body:
            return f"code {self.body.get('code')}: {_short(str(self.body.get('msg')))}"
        if self.body:
            return f"an object with {', '.join(self.body)}"
        return _short(self.stdout.decode(errors="replace"))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"
