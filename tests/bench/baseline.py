"""kube-proxy's rule layout for a generated cluster, as text for stock `nft -f`: the peer in every proxy measurement.

What kube-proxy 1.36 writes in nftables mode: one chain a Service port, in it one rule with one anonymous map over its
endpoints, and one verdict map from address, protocol and port to the chain. With affinity, each endpoint has a chain and a
set of its clients, and the Service's chain asks one set after the other.
"""

from collections.abc import Iterator

from tests.bench import cluster

SKELETON = """\
add table ip kube-proxy
add set ip kube-proxy cluster-ips { type ipv4_addr; }
add set ip kube-proxy nodeport-ips { type ipv4_addr; }
add set ip kube-proxy hairpin-connections { type ipv4_addr . ipv4_addr . inet_proto . inet_service; }
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add map ip kube-proxy service-nodeports { type inet_proto . inet_service : verdict; }
add map ip kube-proxy firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add map ip kube-proxy no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
add map ip kube-proxy no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
add chain ip kube-proxy services
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add rule ip kube-proxy services ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
add chain ip kube-proxy firewall-check
add rule ip kube-proxy firewall-check ip daddr . meta l4proto . th dport vmap @firewall-ips
add chain ip kube-proxy service-endpoints-check
add rule ip kube-proxy service-endpoints-check ip daddr . meta l4proto . th dport vmap @no-endpoint-services
add chain ip kube-proxy nodeport-endpoints-check
add rule ip kube-proxy nodeport-endpoints-check ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
add chain ip kube-proxy cluster-ips-check
add rule ip kube-proxy cluster-ips-check ip daddr @cluster-ips reject
add rule ip kube-proxy cluster-ips-check ip daddr { 10.96.0.0/12 } drop
add chain ip kube-proxy masquerading
add rule ip kube-proxy masquerading mark and 0x4000 != 0 mark set mark xor 0x4000 masquerade fully-random
add rule ip kube-proxy masquerading ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random
add chain ip kube-proxy filter-prerouting-pre-dnat { type filter hook prerouting priority -110; }
add rule ip kube-proxy filter-prerouting-pre-dnat ct state new jump firewall-check
add chain ip kube-proxy filter-output-pre-dnat { type filter hook output priority -110; }
add rule ip kube-proxy filter-output-pre-dnat ct state new jump firewall-check
add chain ip kube-proxy filter-input { type filter hook input priority 0; }
add rule ip kube-proxy filter-input ct state new jump nodeport-endpoints-check
add rule ip kube-proxy filter-input ct state new jump service-endpoints-check
add chain ip kube-proxy filter-forward { type filter hook forward priority 0; }
add rule ip kube-proxy filter-forward ct state new jump service-endpoints-check
add rule ip kube-proxy filter-forward ct state new jump cluster-ips-check
add chain ip kube-proxy filter-output { type filter hook output priority 0; }
add rule ip kube-proxy filter-output ct state new jump service-endpoints-check
add rule ip kube-proxy filter-output ct state new jump cluster-ips-check
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority dstnat; }
add rule ip kube-proxy nat-prerouting jump services
add chain ip kube-proxy nat-output { type nat hook output priority -100; }
add rule ip kube-proxy nat-output jump services
add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority srcnat; }
add rule ip kube-proxy nat-postrouting jump masquerading
"""


def ruleset(services: int, endpoints: int) -> str:
    """The whole cluster as one transaction, chains before the elements that go to them."""
    return SKELETON + "\n".join(_lines(services, endpoints)) + "\n"


def _lines(services: int, endpoints: int) -> Iterator[str]:
    for number in range(services):
        yield f"add chain ip kube-proxy service-{number}"
    for number in range(services):
        yield _masquerade(number)
        yield _rule(number, endpoints)
        yield f"add element ip kube-proxy service-ips {{ {cluster.cluster_ip(number)} . tcp . 80 : goto service-{number} }}"
        yield f"add element ip kube-proxy cluster-ips {{ {cluster.cluster_ip(number)} }}"


def _masquerade(service: int) -> str:
    """Who is no pod, such as the node itself, is masqueraded."""
    return (
        f"add rule ip kube-proxy service-{service} ip daddr {cluster.cluster_ip(service)} tcp dport 80 "
        "ip saddr != 10.244.0.0/16 meta mark set mark or 0x4000"
    )


def rewrite(service: int, endpoints: int) -> str:
    """One Service's chain written anew, as a changed endpoint makes kube-proxy do."""
    return f"flush chain ip kube-proxy service-{service}\n{_masquerade(service)}\n{_rule(service, endpoints)}\n"


def _rule(service: int, endpoints: int) -> str:
    choices = ", ".join(f"{i} : {e.address} . {e.port}" for i, e in enumerate(cluster.endpoints(service, endpoints)))
    return (
        f"add rule ip kube-proxy service-{service} meta l4proto tcp "
        f"dnat ip addr . port to numgen random mod {endpoints} map {{ {choices} }}"
    )


def with_affinity(endpoints: int) -> str:
    """The first Service alone, with session affinity of three hours."""
    return SKELETON + "\n".join(_affinity_lines(endpoints)) + "\n"


def _affinity_lines(count: int) -> Iterator[str]:
    table = "ip kube-proxy"
    for i, endpoint in enumerate(cluster.endpoints(0, count)):
        yield f"add set {table} affinity-{i} {{ type ipv4_addr; flags dynamic,timeout; timeout 10800s; }}"
        yield f"add chain {table} endpoint-{i}"
        yield f"add rule {table} endpoint-{i} update @affinity-{i} {{ ip saddr }}"
        yield f"add rule {table} endpoint-{i} meta l4proto tcp dnat to {endpoint.address}:{endpoint.port}"
    yield f"add chain {table} service-0"
    yield _masquerade(0)
    for i in range(count):
        yield f"add rule {table} service-0 ip saddr @affinity-{i} goto endpoint-{i}"
    choices = ", ".join(f"{i} : goto endpoint-{i}" for i in range(count))
    yield f"add rule {table} service-0 numgen random mod {count} vmap {{ {choices} }}"
    yield f"add element {table} service-ips {{ {cluster.cluster_ip(0)} . tcp . 80 : goto service-0 }}"
