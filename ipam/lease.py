"""Leases as values: which attachment has which addresses, and what proves that the attachment still lives.

A lease is written `pending` before anything is wired and becomes `active` when all of it is. Its token names the one
call that made it: whoever gives back or activates a lease presents the token, so a call that comes too late cannot
touch a successor's lease (no ABA).
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_interface

from ipam.address import Address, Interface, Network


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


COOLDOWN_SECONDS = 30.0
"""How long a released address rests, unless the configuration says otherwise."""


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
    """Who asks for addresses: everything of a lease but those. `host_veth` is empty when podwire does not do the wiring."""

    attachment: Attachment
    token: str
    sandbox: Sandbox
    host_veth: str
    owner: str  # for people: "namespace/pod", or the attachment again
    mac: str = ""  # the one the runtime asked for; without, it follows from the address


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedAddress:
    """One address of a lease, with what its pool says about it."""

    address: Address
    network: Network
    gateway: Address | None

    @property
    def interface(self) -> Interface:
        """The address with its subnet's prefix, as it stands on the pod's interface."""
        return ip_interface((self.address, self.network.prefixlen))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One address from each list of ranges, all given and taken back together."""

    claim: Claim
    addresses: tuple[LeasedAddress, ...]
    state: State

    @property
    def leading(self) -> LeasedAddress:
        """The first IPv4 address, or the first one: the pod's MAC follows from it."""
        return next((given for given in self.addresses if given.address.version == 4), self.addresses[0])

    @property
    def address(self) -> Address:
        return self.leading.address

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        return tuple(given.interface for given in self.addresses)

    @property
    def listed(self) -> str:
        """Every address, for people."""
        return ", ".join(str(given.address) for given in self.addresses)

    def gateway_of(self, version: int) -> Address | None:
        """The gateway for destinations of this family."""
        return next((given.gateway for given in self.addresses if given.address.version == version), None)
