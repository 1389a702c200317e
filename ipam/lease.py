"""Leases as values: which attachment has which address, and what proves that the attachment still lives.

A lease is written `pending` before anything is wired and becomes `active` when all of it is. Its token names the one
call that made it: whoever gives back or activates a lease presents the token, so a call that comes too late cannot
touch a successor's lease (no ABA).
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """CNI's own key: one interface of one container on one network."""

    network: str
    container_id: str
    ifname: str

    @property
    def digest(self) -> bytes:
        """A short name for the attachment, the same on every call and on every node."""
        return hashlib.sha256(f"{self.network}/{self.container_id}/{self.ifname}".encode()).digest()

    def __str__(self) -> str:
        return f"{self.container_id}/{self.ifname} on network {self.network}"


class State(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """The network namespace an attachment was wired into. An inode number is given out again after a reboot."""

    device: int
    inode: int
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who asks for an address: everything of a lease but the address."""

    attachment: Attachment
    token: str
    sandbox: Sandbox
    host_veth: str
    owner: str  # for people: "namespace/pod", or the attachment again


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    claim: Claim
    address: IPv4Address
    network: IPv4Network
    gateway: IPv4Address | None
    state: State

    @property
    def interface(self) -> IPv4Interface:
        """The address with its subnet's prefix, as it stands on the pod's interface."""
        return IPv4Interface((self.address, self.network.prefixlen))
