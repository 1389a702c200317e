"""ipMasq for a plugin that works alone: pods of these subnets leave the node with the node's address.

One rule and one set for each family, however many pods there are. The text may be loaded any number of times: it makes
what is missing, replaces the rules by themselves and adds the subnets, in one transaction.
"""

from collections.abc import Iterable

from dataplane.nft.objects import Family, Table
from ipam.address import Network

TABLE = Table(family=Family.IP, name="podwire-cni")
_FAMILIES = ((4, "ip", "ipv4_addr", "224.0.0.0/4"), (6, "ip6", "ipv6_addr", "ff00::/8"))


def render(subnets: Iterable[Network]) -> str:
    wanted = frozenset(subnets)
    texts = [
        _render(family, kind, multicast, elements)
        for version, family, kind, multicast in _FAMILIES
        if (elements := ", ".join(sorted(str(subnet) for subnet in wanted if subnet.version == version)))
    ]
    return "".join(texts)


def _render(family: str, kind: str, multicast: str, elements: str) -> str:
    table = f"{family} {TABLE.name}"
    return f"""\
add table {table}
add set {table} subnets {{ type {kind}; flags interval; auto-merge; }}
add chain {table} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}
flush chain {table} postrouting
add rule {table} postrouting {family} saddr @subnets {family} daddr != @subnets {family} daddr != {multicast} masquerade fully-random
add element {table} subnets {{ {elements} }}
"""
