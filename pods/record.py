"""What the runner knows of one pod: its sandbox and its containers.

Pure. Whoever runs the pod keeps this over the runner's death, as a file or as labels in a container runtime.
"""

from datetime import datetime

import msgspec


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One container: what runs of it, and how its last end was. `running` is a name only its runtime understands."""

    name: str
    running: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    restarts: int = 0


class SandboxRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A pod's network namespace and what runs in it.

    There are no `addresses` until the network plugin has wired it. A pod whose containers have all ended for good is
    `released`: its namespace and lease are given back, and only its status is left. `netns` is the name or path the
    runtime gave the namespace.
    """

    uid: str
    namespace: str
    name: str
    sandbox_id: str
    made_at: datetime
    netns: str = ""
    boot_id: str = ""
    addresses: tuple[str, ...] = ()
    released: bool = False
    containers: tuple[ContainerRecord, ...] = ()

    @property
    def address(self) -> str:
        """The first address, the one of the cluster's first family; empty when there is none."""
        return self.addresses[0] if self.addresses else ""

    def container(self, name: str) -> ContainerRecord:
        return next((record for record in self.containers if record.name == name), ContainerRecord(name=name))

    def with_container(self, changed: ContainerRecord) -> "SandboxRecord":
        others = tuple(record for record in self.containers if record.name != changed.name)
        return msgspec.structs.replace(self, containers=(*others, changed))

    @property
    def running(self) -> tuple[ContainerRecord, ...]:
        return tuple(record for record in self.containers if record.running)
