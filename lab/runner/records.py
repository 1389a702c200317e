"""What the runner remembers of a pod over its own death: one small file per pod, replaced at each change.

A sandbox is written down before it is made. So after a crash at any point there is a record of everything that may
exist, and taking down what does not exist is harmless.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from lab import state
from lab.processes import Process

log = structlog.get_logger(__name__)


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One container: the process it is, or how its last one ended."""

    name: str
    process: Process | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    restarts: int = 0


class SandboxRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A pod's namespace and what runs in it.

    `address` is empty until the network plugin has wired it. A pod whose containers have all ended for good is
    `released`: its namespace and lease are given back, and only its status is left.
    """

    uid: str
    namespace: str
    name: str
    container_id: str
    netns: str
    boot_id: str
    made_at: datetime
    address: str = ""
    released: bool = False
    containers: tuple[ContainerRecord, ...] = ()

    def container(self, name: str) -> ContainerRecord:
        return next((record for record in self.containers if record.name == name), ContainerRecord(name=name))

    def with_container(self, changed: ContainerRecord) -> "SandboxRecord":
        others = tuple(record for record in self.containers if record.name != changed.name)
        return msgspec.structs.replace(self, containers=(*others, changed))


class Records:
    """The folder of records of one node."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def all(self) -> Iterator[SandboxRecord]:
        """Yield every record that can be read; one that cannot is reported and left for a person to look at."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=SandboxRecord)
            except (msgspec.MsgspecError, OSError) as error:
                log.warning("pod record cannot be read", file=str(path), error=str(error))

    def write(self, record: SandboxRecord) -> None:
        # Not forced to disk: what a machine forgets in a crash is also what no longer exists after it.
        state.write_atomically(self._path(record.uid), msgspec.json.encode(record), durable=False)

    def remove(self, uid: str) -> None:
        self._path(uid).unlink(missing_ok=True)

    def log_file(self, uid: str, container: str) -> Path:
        return self._folder / f"{uid}.{container}.log"

    def remove_logs(self, uid: str) -> None:
        for path in self._folder.glob(f"{uid}.*.log"):
            path.unlink(missing_ok=True)

    def _path(self, uid: str) -> Path:
        return self._folder / f"{uid}.json"
