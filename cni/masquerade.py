"""ipMasq for a plugin that works alone: pods of these subnets leave the node with the node's address.

One rule and one set for each family, however many pods there are. The text may be loaded any number of times: it makes
what is missing, replaces the rules by themselves and adds the subnets, in one transaction.
"""

from collections.abc import Iterable, Mapping

from dataplane.nft.objects import Family, Table
from ipam.address import Network

TABLE = Table(family=Family.IP, name="podwire-cni")
TABLE6 = Table(family=Family.IP6, name=TABLE.name)
CHAIN, SUBNETS = "postrouting", "subnets"
_FAMILIES = ((4, TABLE, "ipv4_addr", "224.0.0.0/4"), (6, TABLE6, "ipv6_addr", "ff00::/8"))


def render(subnets: Iterable[Network]) -> Mapping[Table, str]:
    """The text of each table that is needed."""
    wanted = frozenset(subnets)
    return {
        table: _render(table, kind, multicast, elements)
        for version, table, kind, multicast in _FAMILIES
        if (elements := ", ".join(sorted(str(subnet) for subnet in wanted if subnet.version == version)))
    }


def _render(table: Table, kind: str, multicast: str, elements: str) -> str:
    family = table.family.name.lower()
    return f"""\
add table {table}
add set {table} {SUBNETS} {{ type {kind}; flags interval; auto-merge; }}
add chain {table} {CHAIN} {{ type nat hook postrouting priority srcnat; policy accept; }}
flush chain {table} {CHAIN}
add rule {table} {CHAIN} {family} saddr @{SUBNETS} {family} daddr != @{SUBNETS} {family} daddr != {multicast} masquerade fully-random
add element {table} {SUBNETS} {{ {elements} }}
"""
