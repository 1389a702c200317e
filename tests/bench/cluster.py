"""A generated cluster: Services numbered from 0, each with the same number of endpoints, no address twice.

Service n has ClusterIP 10.96.0.10 + n, port 80/TCP; endpoints count up from 10.128.0.1, port 8080.
"""

import ipaddress
from typing import NamedTuple

FIRST_CLUSTER_IP = ipaddress.IPv4Address("10.96.0.10")
FIRST_ENDPOINT = ipaddress.IPv4Address("10.128.0.1")


class EndpointAddress(NamedTuple):
    address: ipaddress.IPv4Address
    port: int


def cluster_ip(service: int) -> ipaddress.IPv4Address:
    return FIRST_CLUSTER_IP + service


def endpoints(service: int, count: int) -> tuple[EndpointAddress, ...]:
    first = FIRST_ENDPOINT + service * count
    return tuple(EndpointAddress(first + i, 8080) for i in range(count))
