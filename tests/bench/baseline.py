"""kube-proxy's rule layout for a generated cluster, as text for stock `nft -f`: the peer in every proxy measurement.

What kube-proxy 1.36 writes in nftables mode for Services without affinity: one chain a Service port, in it one rule with
one anonymous map over its endpoints, and one verdict map from address, protocol and port to the chain.
"""

from collections.abc import Iterator

from tests.bench import cluster

SKELETON = """\
add table ip kube-proxy
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add chain ip kube-proxy services
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority dstnat; }
add chain ip kube-proxy nat-output { type nat hook output priority -100; }
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add rule ip kube-proxy nat-prerouting jump services
add rule ip kube-proxy nat-output jump services
"""


def ruleset(services: int, endpoints: int) -> str:
    """The whole cluster as one transaction, chains before the elements that go to them."""
    return SKELETON + "\n".join(_lines(services, endpoints)) + "\n"


def _lines(services: int, endpoints: int) -> Iterator[str]:
    for number in range(services):
        yield f"add chain ip kube-proxy service-{number}"
    for number in range(services):
        yield _rule(number, endpoints)
        yield f"add element ip kube-proxy service-ips {{ {cluster.cluster_ip(number)} . tcp . 80 : goto service-{number} }}"


def rewrite(service: int, endpoints: int) -> str:
    """One Service's chain written anew, as a changed endpoint makes kube-proxy do."""
    return f"flush chain ip kube-proxy service-{service}\n{_rule(service, endpoints)}\n"


def _rule(service: int, endpoints: int) -> str:
    choices = ", ".join(f"{i} : {e.address} . {e.port}" for i, e in enumerate(cluster.endpoints(service, endpoints)))
    return (
        f"add rule ip kube-proxy service-{service} meta l4proto tcp "
        f"dnat ip addr . port to numgen random mod {endpoints} map {{ {choices} }}"
    )
