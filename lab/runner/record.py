"""What the runner knows of one pod and writes down: its sandbox and its containers.

Pure. A sandbox is written down before it is made. So after a crash at any point there is a record of everything that
may exist, and taking down what does not exist is harmless.
"""

from datetime import datetime

import msgspec

from lab.process import Process


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
