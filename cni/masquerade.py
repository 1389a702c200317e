"""ipMasq for a plugin that works alone: pods of these subnets leave the node with the node's address.

One rule and one set, however many pods there are. The text may be loaded any number of times: it makes what is
missing, replaces the rule by itself and adds the subnets, in one transaction.
"""

from collections.abc import Iterable

from dataplane.nft.objects import Family, Table
from ipam.address import Network

TABLE = Table(family=Family.IP, name="podwire-cni")


def render(subnets: Iterable[Network]) -> str:
    elements = ", ".join(sorted(set(map(str, subnets))))
    return f"""\
add table ip {TABLE.name}
add set ip {TABLE.name} subnets {{ type ipv4_addr; flags interval; auto-merge; }}
add chain ip {TABLE.name} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}
flush chain ip {TABLE.name} postrouting
add rule ip {TABLE.name} postrouting ip saddr @subnets ip daddr != @subnets ip daddr != 224.0.0.0/4 masquerade fully-random
add element ip {TABLE.name} subnets {{ {elements} }}
"""
