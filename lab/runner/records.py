"""What the runner remembers over its own death: a small file for each pod, replaced at each change."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import structlog

from dataplane import atomic_file
from pods.record import SandboxRecord

log = structlog.get_logger(__name__)

_RECORD: Final = msgspec.json.Decoder(SandboxRecord)


class Records:
    """The folder of records of one node."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def all(self) -> Iterator[SandboxRecord]:
        """Yield every record that can be read; one that cannot is reported and left for a person to look at."""
        return self._read(sorted(self._folder.glob("*.json")))

    def _read(self, paths: Iterable[Path]) -> Iterator[SandboxRecord]:
        for path in paths:
            try:
                yield _RECORD.decode(path.read_bytes())
            except FileNotFoundError:
                continue
            except (msgspec.MsgspecError, OSError) as error:
                log.warning("pod record cannot be read", file=str(path), error=str(error))

    def find(self, uid: str) -> SandboxRecord | None:
        """Return what is remembered of a pod; None when that is nothing, or cannot be read."""
        return next((record for record in self._read([self._path(uid)]) if record.uid == uid), None)

    def write(self, record: SandboxRecord) -> None:
        # Not forced to disk: what a machine forgets in a crash is also what no longer exists after it.
        atomic_file.write(self._path(record.uid), msgspec.json.encode(record), durable=False)

    def remove(self, uid: str) -> None:
        self._path(uid).unlink(missing_ok=True)

    def log_file(self, uid: str, container: str) -> Path:
        return self._folder / f"{uid}.{container}.log"

    def log_files(self) -> Iterator[Path]:
        return self._folder.glob("*.log")

    def remove_logs(self, uid: str) -> None:
        for path in self._folder.glob(f"{uid}.*.log*"):
            path.unlink(missing_ok=True)

    def _path(self, uid: str) -> Path:
        return self._folder / f"{uid}.json"
