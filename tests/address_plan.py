"""The addresses of tests/service_node.py, for either address family."""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from dataplane.nft.objects import Family as TableFamily
from proxy.here import Here
from proxy.model import Family
from proxy.ruleset import Ruleset


@dataclass(frozen=True)
class AddressPlan:
    """`service_ip` N is the Nth cluster IP, `external` the Nth address that only Services have."""

    ruleset: Ruleset
    family: Family
    pods: dict[str, str]
    gateway: str
    remote: str
    remote_gateway: str
    outside: str
    node: str
    loopback: str
    pod_cidr: str
    service_cidr: str
    external_cidr: str
    link_prefix: int

    @property
    def here(self) -> Here:
        return Here(
            node="node1",
            zone="zone1",
            addresses=(ip_address(self.node),),
            nodeport_addresses=(ip_network(self.node),),
            pod_cidrs=(ip_network(self.pod_cidr),),
            service_cidrs=(ip_network(self.service_cidr),),
        )

    @property
    def table(self) -> str:
        return str(self.ruleset.table)

    @property
    def everywhere(self) -> str:
        return "0.0.0.0" if self.family == "IPv4" else "::"

    def service_ip(self, number: int) -> str:
        return str(ip_network(self.service_cidr)[number])

    def external(self, number: int) -> str:
        return str(ip_network(self.external_cidr)[number])

    def cidr(self, address: str) -> str:
        """The address with the length of its link's prefix."""
        return f"{address}/{self.link_prefix}"

    def __str__(self) -> str:
        return self.family


IPV4 = AddressPlan(
    ruleset=Ruleset(TableFamily.IP),
    family="IPv4",
    pods={"client": "10.244.1.2", "a": "10.244.1.3", "b": "10.244.1.4", "c": "10.244.1.5"},
    gateway="10.244.1.1",
    remote="10.244.2.6",
    remote_gateway="10.244.2.1",
    outside="192.0.2.2",
    node="192.0.2.1",
    loopback="127.0.0.1",
    pod_cidr="10.244.1.0/24",
    service_cidr="10.96.0.0/16",
    external_cidr="203.0.113.0/24",
    link_prefix=24,
)
IPV6 = AddressPlan(
    ruleset=Ruleset(TableFamily.IP6),
    family="IPv6",
    pods={
        "client": "fd00:10:244:1::2",
        "a": "fd00:10:244:1::3",
        "b": "fd00:10:244:1::4",
        "c": "fd00:10:244:1::5",
    },
    gateway="fd00:10:244:1::1",
    remote="fd00:10:244:2::6",
    remote_gateway="fd00:10:244:2::1",
    outside="2001:db8::2",
    node="2001:db8::1",
    loopback="::1",
    pod_cidr="fd00:10:244:1::/64",
    service_cidr="fd00:10:96::/112",
    external_cidr="2001:db8:113::/64",
    link_prefix=64,
)
