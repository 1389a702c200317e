"""The one nft table of the agent: pods that talk to the outside do so under the node's address.

Pure. Inside the cluster nothing is masqueraded: a pod sees the address of the pod that calls it. One rule and two sets,
so the cost of a connection does not grow with nodes or pods.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from dataplane.nft.objects import Family, Table
from node.members import Cluster

TABLE = Table(family=Family.IP, name="podwire-node")

# Frames between two pods of one bridge pass this hook as well; what is sent to all of them must keep its source.
_GROUPS = (IPv4Network("224.0.0.0/4"), IPv4Network("255.255.255.255/32"))

_TEMPLATE = """\
table ip podwire-node {{
	set pods {{
		type ipv4_addr
		flags interval
		comment "the pods of this node"{pods}
	}}

	set cluster {{
		type ipv4_addr
		flags interval
		comment "pods and addresses of all nodes, and groups"{cluster}
	}}

	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr @pods ip daddr != @cluster masquerade fully-random comment "pods to the outside"
	}}
}}
"""

# Creating the table first makes deleting it succeed; all three are one transaction, so no packet sees it absent.
_REPLACE = "table ip podwire-node\ndelete table ip podwire-node\n"


def render(cluster: Cluster, own_name: str) -> str:
    """The table as nft itself would list it, up to white space."""
    own = cluster.member(own_name)
    pods = [cidr for cidr in (own.pod_cidrs if own else ()) if isinstance(cidr, IPv4Network)]
    inside = [cidr for member in cluster.members for cidr in member.pod_cidrs if isinstance(cidr, IPv4Network)]
    hosts = [address for member in cluster.members for address in member.addresses]
    inside += [IPv4Network(address) for address in hosts if isinstance(address, IPv4Address)]
    return _TEMPLATE.format(pods=_elements(pods), cluster=_elements([*inside, *_GROUPS]))


def replacement(table: str) -> str:
    """The text that puts this table in the place of whatever has its name, atomically."""
    return _REPLACE + table


def is_listed_as(table: str, listing: str) -> bool:
    """Whether nft's listing is this table: nft breaks lines where it likes."""
    return table.split() == listing.split()


def _elements(networks: Iterable[IPv4Network]) -> str:
    listed = ", ".join(_spelled(network) for network in _disjoint(networks))
    return f"\n\t\telements = {{ {listed} }}" if listed else ""


def _disjoint(networks: Iterable[IPv4Network]) -> list[IPv4Network]:
    """Sorted, without those inside another: an interval set refuses overlaps. Neighbours stay apart, for the reader."""
    kept: list[IPv4Network] = []
    for network in sorted(set(networks)):
        if not (kept and network.subnet_of(kept[-1])):
            kept.append(network)
    return kept


def _spelled(network: IPv4Network) -> str:
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)
