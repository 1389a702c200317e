"""What the reference plugin host-local left on disk: one file an address, with container and interface in it.

Read only. `last_reserved_ip.N` and `lock` stand beside the addresses; a file that is empty, as a crash leaves it, says
that an address is lost and to nobody.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from ipam.address import Address, Network
from ipam.lease import Attachment, Claim, Lease, LeasedAddress, Sandbox, State
from ipam.pool import usable

_IFNAME_OF_OLD_RECORDS = "eth0"  # before 0.8 a file named the container alone


class NotImportable(Exception):
    """The folder says something that cannot be taken over."""

    def __init__(self, directory: Path, problem: str) -> None:
        super().__init__(directory, problem)
        self.directory, self.problem = directory, problem

    def __str__(self) -> str:
        return f"{self.directory}: {self.problem}; nothing was imported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One file. `container_id` is empty in one that a crash left."""

    address: Address
    container_id: str
    ifname: str


def read(directory: Path) -> tuple[Record, ...]:
    """Every record of a network's folder, sorted by address. Raises NotImportable."""
    try:
        found = [(address, path) for path in directory.iterdir() if (address := _address(path.name))]
        records = [_record(address, path.read_text(encoding="utf-8")) for address, path in found]
    except (OSError, UnicodeDecodeError) as error:
        raise NotImportable(directory, str(error)) from error
    return tuple(sorted(records, key=lambda record: (record.address.version, int(record.address))))


def _address(name: str) -> Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def _record(address: Address, text: str) -> Record:
    container_id, ifname = [*text.split(), "", ""][:2]
    return Record(address=address, container_id=container_id, ifname=ifname or _IFNAME_OF_OLD_RECORDS)


def leases(
    records: Iterable[Record], network: str, subnets: Sequence[Network], *, boot_id: str, directory: Path
) -> tuple[Lease, ...]:
    """The records as leases, an attachment's addresses together. Raises NotImportable for one outside the subnets."""
    held: dict[tuple[str, str], list[LeasedAddress]] = {}
    for record in records:
        if record.container_id:
            given = _given(record.address, subnets, directory)
            held.setdefault((record.container_id, record.ifname), []).append(given)
    return tuple(
        Lease(
            claim=Claim(
                attachment=Attachment(network=network, container_id=container_id, ifname=ifname),
                token=f"imported-{container_id}-{ifname}",
                sandbox=Sandbox(device=0, inode=0, boot_id=boot_id),
                host_veth="",
                owner=f"{container_id}/{ifname}",
            ),
            addresses=tuple(addresses),
            state=State.ACTIVE,
        )
        for (container_id, ifname), addresses in held.items()
    )


def _given(address: Address, subnets: Sequence[Network], directory: Path) -> LeasedAddress:
    for subnet in subnets:
        if subnet.version == address.version and address in subnet:
            return LeasedAddress(address=address, network=subnet, gateway=usable(subnet)[0])
    named = ", ".join(map(str, subnets)) or "none"
    raise NotImportable(directory, f"{address} is in no --subnet ({named}); name the subnet it was given from as well")
