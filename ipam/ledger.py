"""The history's table: written in the same transaction as what it tells of, so it never tells anything else."""

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from ipam.address import Address
from ipam.history import Event
from ipam.lease import Attachment, Lease

KEPT = 100_000
"""How many events are kept: some 15 MB, and a month of three pods a minute."""


def record(sql: sqlite3.Connection, event: str, leases: Iterable[Lease], *, at: float) -> None:
    """Append what happened to each address of the leases; forget the oldest of too many."""
    rows = [_row(event, lease, given.address, at) for lease in leases for given in lease.addresses]
    if not rows:
        return
    sql.executemany(
        "INSERT INTO history (at, event, network, family, number, container_id, ifname, owner)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    sql.execute("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", (KEPT,))


def _row(event: str, lease: Lease, address: Address, at: float) -> tuple[object, ...]:
    attachment = lease.claim.attachment
    what = (at, event, attachment.network, address.version, address.packed)
    return (*what, attachment.container_id, attachment.ifname, lease.claim.owner)


CHURN = (
    "SELECT count(*) FILTER (WHERE event = 'given'), count(*) FILTER (WHERE event = 'released') FROM history"
    " WHERE network = ? AND family = ? AND number BETWEEN ? AND ? AND at >= ?"
)
QUERY = "SELECT * FROM history WHERE family = ? AND number = ? ORDER BY id"


def event_of(row: tuple[Any, ...]) -> Event:
    _, at, event, network, _, number, container_id, ifname, owner = row
    return Event(
        at=datetime.fromtimestamp(at, UTC),
        is_given=event == "given",
        address=ip_address(number),
        attachment=Attachment(network=network, container_id=container_id, ifname=ifname),
        owner=owner,
    )
