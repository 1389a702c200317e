"""Leases as rows of the lease file, and rows as leases."""

import sqlite3
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from itertools import groupby
from typing import Any

from ipam.lease import Attachment, Claim, Lease, LeasedAddress, Sandbox, State

SELECT = "SELECT leases.*, number, subnet, gateway FROM leases JOIN addresses ON lease = id"
"""One row an address; a lease's rows have to follow each other, in the order of `position`."""

_OF_LEASE = 12


def leases(rows: Iterable[tuple[Any, ...]]) -> tuple[Lease, ...]:
    return tuple(_lease(row, [row, *rest]) for row, *rest in (list(group) for _, group in groupby(rows, _id)))


def find(sql: sqlite3.Connection, attachment: Attachment) -> Lease | None:
    rows = sql.execute(
        f"{SELECT} WHERE leases.network = ? AND container_id = ? AND ifname = ? ORDER BY position",
        (attachment.network, attachment.container_id, attachment.ifname),
    )
    return next(iter(leases(rows.fetchall())), None)


def insert(sql: sqlite3.Connection, claim: Claim, state: State) -> int:
    """Write a lease that has no address yet; return its number."""
    attachment, sandbox = claim.attachment, claim.sandbox
    owned = (attachment.network, attachment.container_id, attachment.ifname, state, claim.token)
    proof = (sandbox.device, sandbox.inode, sandbox.boot_id, claim.host_veth, claim.owner, claim.mac)
    written = sql.execute("INSERT INTO leases VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*owned, *proof))
    return written.lastrowid or 0


def key(lease: Lease) -> tuple[str, str, str, str]:
    """What a call must know of a lease to change it: its token, and whose it is."""
    attachment = lease.claim.attachment
    return lease.claim.token, attachment.network, attachment.container_id, attachment.ifname


def _id(row: tuple[Any, ...]) -> Any:
    return row[0]


def _lease(row: tuple[Any, ...], rows: Iterable[tuple[Any, ...]]) -> Lease:
    _, network, container_id, ifname, state, token, device, inode, boot_id, veth, owner, mac = row[:_OF_LEASE]
    claim = Claim(
        attachment=Attachment(network=network, container_id=container_id, ifname=ifname),
        token=token,
        sandbox=Sandbox(device=device, inode=inode, boot_id=boot_id),
        host_veth=veth,
        owner=owner,
        mac=mac,
    )
    return Lease(claim=claim, addresses=tuple(map(_address, rows)), state=State(state))


def _address(row: tuple[Any, ...]) -> LeasedAddress:
    number, subnet, gateway = row[_OF_LEASE:]
    return LeasedAddress(
        address=ip_address(number), network=ip_network(subnet), gateway=ip_address(gateway) if gateway else None
    )
