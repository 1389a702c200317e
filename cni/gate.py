"""What passes a pod's port of the bridge, as values: frames from its own addresses, and so many bytes a second.

    guards      port → what is checked there      absent: nothing
    macs        port . MAC                        the pod's
    sources     port . IPv4 address               the pod's
    sources6    port . IPv6 address               the pod's, with the link-local one its kernel makes from the MAC
    targets6    the same, for what neighbour discovery tells others
    from-pods, to-pods   port, with a limit       a packet matches while there are too many

The rules are the same few however many pods there are. An element's key begins with the port's name, which can be
recomputed from the attachment. The port has its elements before it exists, and keeps them until it is gone: there is no
moment in which it passes everything.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address

from cni import wire_types
from cni.spec import invalid
from dataplane.nft import objects, values
from dataplane.nft.objects import Element, Family, Limit, Table
from dataplane.nft.values import Verdict
from ipam.address import Address

TABLE = Table(family=Family.BRIDGE, name="podwire-cni")
GUARDS, MACS, SOURCES, SOURCES6, TARGETS6, FROM, TO = SETS = (
    *("guards", "macs", "sources", "sources6", "targets6"),
    *("from-pods", "to-pods"),
)

NEEDS = "nf_tables for bridges (CONFIG_NF_TABLES_BRIDGE)"

_NAME_BYTES = 16  # IFNAMSIZ: how nft holds an interface's name
_BURST_MAX = 0xFFFFFFFF
_BYTE = 8

Held = Mapping[str, Sequence[Element]]
"""The elements of each of the sets."""


class Check(StrEnum):
    """What is looked at in the frames a pod sends; each but NONE is the name of a chain."""

    NONE = "none"
    MAC = "check-mac"
    SOURCE = "check-source"

    @property
    def verdict(self) -> Verdict:
        return Verdict("accept") if self is Check.NONE else Verdict("goto", self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """Limits by direction, None for none."""

    from_pod: Limit | None = None
    to_pod: Limit | None = None


UNLIMITED = Bandwidth()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One pod's port: `veth` is the node's end."""

    veth: str
    network: str
    owner: str
    mac: str
    addresses: tuple[Address, ...]
    check: Check
    bandwidth: Bandwidth = UNLIMITED

    @property
    def is_open(self) -> bool:
        return self.check is Check.NONE and self.bandwidth == UNLIMITED

    def elements(self) -> Held:
        """Everything that shall stand in the table."""
        comment = objects.fit_comment(f"{self.network} {self.owner}")
        port = port_key(self.veth)
        owned = {} if self.check is Check.NONE else self._owned(port)
        limits = ((FROM, self.bandwidth.from_pod), (TO, self.bandwidth.to_pod))
        return {
            **owned,
            GUARDS: [Element(key=port, value=self.check.verdict, comment=comment)],
            **{name: [Element(key=port, limit=limit)] for name, limit in limits if limit},
        }

    def candidates(self) -> Held:
        """The keys this pod may have in the table, whatever was asked for when it was wired."""
        port = port_key(self.veth)
        return {**self._owned(port), **{name: [Element(key=port)] for name in (GUARDS, FROM, TO)}}

    def _owned(self, port: bytes) -> dict[str, list[Element]]:
        own = [address for address in self.addresses if address.version == 4]
        own6 = [*(address for address in self.addresses if address.version == 6), link_local(self.mac)]
        return {
            MACS: [Element(key=values.concat(port, _octets(self.mac)))],
            SOURCES: [Element(key=values.concat(port, address.packed)) for address in own],
            SOURCES6: [Element(key=values.concat(port, address.packed)) for address in own6],
            TARGETS6: [Element(key=values.concat(port, address.packed)) for address in own6],
        }


def port_key(veth: str) -> bytes:
    return veth.encode().ljust(_NAME_BYTES, b"\0")


def port_of(element: Element) -> str:
    return element.key[:_NAME_BYTES].rstrip(b"\0").decode(errors="replace")


def network_of(guard: Element) -> str:
    return guard.comment.partition(" ")[0]


def link_local(mac: str) -> IPv6Address:
    """The address a kernel gives itself (RFC 4291, appendix A)."""
    octets = _octets(mac)
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:])


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def parse_bandwidth(wire: wire_types.Bandwidth | None) -> Bandwidth:
    """Read runtimeConfig.bandwidth, which counts in bits; ingress is what the pod receives. Raises CniError 7."""
    if wire is None:
        return UNLIMITED
    return Bandwidth(
        to_pod=_limit("ingress", wire.ingress_rate, wire.ingress_burst),
        from_pod=_limit("egress", wire.egress_rate, wire.egress_burst),
    )


def _limit(direction: str, rate: int, burst: int) -> Limit | None:
    field = f"runtimeConfig.bandwidth.{direction}"
    if not (rate or burst):
        return None
    if not rate or not burst:
        missing = "Rate" if burst else "Burst"
        raise invalid(f"{field}{missing}", 0, "rate and burst must be set together")
    if rate < _BYTE:
        raise invalid(f"{field}Rate", rate, "must be at least 8 bits a second")
    if burst // _BYTE > _BURST_MAX:
        raise invalid(f"{field}Burst", burst, f"must be less than {(_BURST_MAX + 1) * _BYTE} bits")
    return Limit(rate=rate // _BYTE, burst=burst // _BYTE)


def render(table: str = TABLE.name) -> str:
    """The table's fixed part; may be loaded any number of times, leaves the elements alone."""
    return "".join(f"{line}\n" for line in _lines(f"bridge {table}"))


def rule_counts() -> Mapping[str, int]:
    """How many rules each chain has when nobody has touched them."""
    words = [line.split() for line in _lines("t t")]
    chains = [line[4] for line in words if line[:2] == ["add", "rule"]]
    return {chain: chains.count(chain) for chain in chains}


_CHAINS = {
    Check.MAC: ("iifname . ether saddr != @macs counter drop",),
    # Frames of another kind carry no address that could be checked, a VLAN's carry one that would not be.
    Check.SOURCE: (
        "iifname . ether saddr != @macs counter drop",
        "ether type vmap { ip : goto check-ip, arp : goto check-arp, ip6 : goto check-ip6 }",
        "counter drop",
    ),
    "check-ip": ("iifname . ip saddr != @sources counter drop",),
    "check-arp": (
        "iifname . arp saddr ether != @macs counter drop",
        # A probe, by which a host asks whether an address is free, tells nobody anything (RFC 5227).
        "arp saddr ip 0.0.0.0 arp operation request accept",
        "iifname . arp saddr ip != @sources counter drop",
    ),
    "check-ip6": (
        # A pod is no router: who believed it would send everything there.
        "icmpv6 type { nd-router-advert, nd-redirect } counter drop",
        "icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets6 counter drop",
        # Without an address yet: asking whether its own are free, and joining groups (RFC 4862, 3810).
        "ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . @th,64,128 @targets6 accept",
        "ip6 saddr :: icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report, nd-router-solicit } accept",
        "iifname . ip6 saddr != @sources6 counter drop",
    ),
    "from-pod": ("iifname @from-pods drop", "iifname vmap @guards"),
    "to-pod": ("oifname @to-pods drop",),
}


def _lines(table: str) -> Iterator[str]:
    yield f"add table {table}"
    yield f"add map {table} {GUARDS} {{ type ifname : verdict; }}"
    yield f"add set {table} {MACS} {{ type ifname . ether_addr; }}"
    yield f"add set {table} {SOURCES} {{ type ifname . ipv4_addr; }}"
    yield f"add set {table} {SOURCES6} {{ type ifname . ipv6_addr; }}"
    # nft has no name for the target of a neighbour advertisement, and so no type either.
    yield f"add set {table} {TARGETS6} {{ typeof iifname . @th,64,128; }}"
    for name in (FROM, TO):  # each element has a limit of its own; a set must be declared with some
        yield f"add set {table} {name} {{ type ifname; limit rate over 1 mbytes/second; }}"
    hooks = {"from-pod": "hook prerouting priority -300", "to-pod": "hook postrouting priority 0"}
    for chain in _CHAINS:
        hook = f" {{ type filter {hooks[chain]}; policy accept; }}" if chain in hooks else ""
        yield f"add chain {table} {chain}{hook}"
        yield f"flush chain {table} {chain}"
    for chain, rules in _CHAINS.items():
        yield from (f"add rule {table} {chain} {rule}" for rule in rules)
