"""What a Service is given: cluster IPs, node ports, and a claim on each so that nobody else is."""

from ipaddress import ip_address

from api.model import Admission, Claim, Claims, Object
from api.resources.service import cluster_ips, needs, node_ports
from api.resources.service.cluster_ips import ClusterIPs
from api.resources.service.node_ports import NodePorts


def admit(service: Object, old: Object | None, claims: Claims, ranges: ClusterIPs) -> Admission:
    """The Service with everything it needs; `service` is settled and valid."""
    spec, before = dict(service["spec"]), (old or {}).get("spec", {})
    service = service | {"spec": spec}
    held: set[Claim] = set()
    relies_on: frozenset[Claim] = frozenset()
    if needs.cluster_ip(spec) and not needs.is_headless(spec):
        assigned = ranges.assign(service, before, claims)
        spec["clusterIPs"], relies_on = assigned.addresses, assigned.relies_on
        spec["clusterIP"] = spec["clusterIPs"][0]
        held |= {Claim(pool=cluster_ips.POOL, value=str(ip_address(text))) for text in spec["clusterIPs"]}
    elif needs.cluster_ip(spec):
        spec["clusterIPs"] = [needs.HEADLESS]
    numbers = NodePorts(service, before, claims)
    numbers.assign()
    held |= {Claim(pool=node_ports.POOL, value=str(number)) for number in numbers.held}
    return Admission(obj=service, claims=frozenset(held), relies_on=relies_on)
