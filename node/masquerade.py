"""The agent's nft tables, one of each family: pods that talk to the outside do so under the node's address.

Pure. Inside the cluster nothing is masqueraded: a pod sees the address of the pod that calls it. One rule and two sets,
so the cost of a connection does not grow with nodes or pods.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from dataplane.netlink.objects import Network
from dataplane.nft.objects import Family, Table
from node.members import Cluster

TABLE = Table(family=Family.IP, name="podwire-node")
TABLE6 = Table(family=Family.IP6, name="podwire-node")

# Frames between two pods of one bridge pass this hook as well; what is sent to all of them must keep its source.
_GROUPS: dict[int, tuple[Network, ...]] = {
    4: (IPv4Network("224.0.0.0/4"), IPv4Network("255.255.255.255/32")),
    6: (IPv6Network("fe80::/10"), IPv6Network("ff00::/8")),
}

_TEMPLATE = """\
table {family} podwire-node {{
	set pods {{
		type {kind}
		flags interval
		comment "the pods of this node"{pods}
	}}

	set cluster {{
		type {kind}
		flags interval
		comment "pods and addresses of all nodes, and groups"{cluster}
	}}

	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		{family} saddr @pods {family} daddr != @cluster masquerade fully-random comment "pods to the outside"
	}}
}}
"""

# Creating the table first makes deleting it succeed; all three are one transaction, so no packet sees it absent.
_REPLACE = "table {table}\ndelete table {table}\n"


def render(cluster: Cluster, own_name: str, table: Table = TABLE) -> str:
    """The table as nft itself would list it, up to white space."""
    version, family = (4, "ip") if table == TABLE else (6, "ip6")
    own = cluster.member(own_name)
    pods = [cidr for cidr in (own.pod_cidrs if own else ()) if cidr.version == version]
    inside = [cidr for member in cluster.members for cidr in member.pod_cidrs]
    inside += [ip_network(address) for member in cluster.members for address in member.addresses]
    inside = [network for network in inside if network.version == version]
    return _TEMPLATE.format(
        family=family,
        kind=f"ipv{version}_addr",
        pods=_elements(pods),
        cluster=_elements([*inside, *_GROUPS[version]]),
    )


def replacement(table: Table, text: str) -> str:
    """The text that puts this table in the place of whatever has its name, atomically."""
    return _REPLACE.format(table=table) + text


def is_listed_as(text: str, listing: str) -> bool:
    """Whether nft's listing is this table: nft breaks lines where it likes."""
    return text.split() == listing.split()


def _elements(networks: Iterable[Network]) -> str:
    listed = ", ".join(_spelled(network) for network in _disjoint(networks))
    return f"\n\t\telements = {{ {listed} }}" if listed else ""


def _disjoint(networks: Iterable[Network]) -> list[Network]:
    """Sorted, without those inside another: an interval set refuses overlaps. Neighbours stay apart, for the reader."""
    kept: list[Network] = []
    for network in sorted(set(networks), key=lambda each: (int(each.network_address), each.prefixlen)):
        if not (kept and int(network.broadcast_address) <= int(kept[-1].broadcast_address)):
            kept.append(network)
    return kept


def _spelled(network: Network) -> str:
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)
