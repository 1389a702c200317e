"""What can go wrong with leases, each named for the answer it gets: retry, look at the disk, rebuild, delete first."""

from pathlib import Path

from ipam.lease import Lease


class LeaseError(Exception):
    """The lease file refused."""


class LeasesUnreadable(LeaseError):
    """The file is damaged, or is not a lease file of this version."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"lease file {self.path}: {self.reason}; rebuild it from the pods that live: podwire ipam rebuild --data-dir {self.path.parent}"


class LeasesBusy(LeaseError):
    """Somebody has kept the file locked for too long."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"lease file {self.path} stayed locked by another process; try again"


class LeasesInaccessible(LeaseError):
    """The file could not be read or written, for reasons of the disk or the file system."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"lease file {self.path}: {self.reason}; look at the disk and at who may write there"


class AlreadyLeased(LeaseError):
    """The attachment has a lease."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(lease)
        self.lease = lease

    def __str__(self) -> str:
        return f"{self.lease.claim.attachment} already has {self.lease.listed}; delete it first"


class LeaseLost(LeaseError):
    """The lease was given back by somebody else while its attachment was being wired."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(lease)
        self.lease = lease

    def __str__(self) -> str:
        return f"the lease of {self.lease.listed} for {self.lease.claim.attachment} was released during the call"
