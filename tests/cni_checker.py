"""What must hold on a node whenever no call is under way, read from the kernel and the lease file alone.

Nothing of podwire's own code is used: iproute2, nft and SQLite tell what is there.
"""

import ipaddress
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.namespaces import Namespace

PORT = re.compile(r"pw[0-9a-f]{12}")
PODS = ipaddress.ip_network("10.244.0.0/16")


@dataclass(frozen=True, kw_only=True)
class Leased:
    container: str
    ifname: str
    state: str
    port: str
    addresses: frozenset[str]


def violations(node: Namespace, state: Path, pods: Iterable[Namespace]) -> list[str]:
    """Everything that is wrong, given the pods that were added and not deleted; container ids are their names."""
    pods = list(pods)
    leases = leased(state)
    inside = {pod.name: addresses(pod) for pod in pods}
    return [
        *_leases_and_pods(leases, inside),
        *_leases_and_node({lease.port for lease in leases}, node),
    ]


def _leases_and_pods(leases: list[Leased], inside: dict[str, frozenset[str]]) -> Iterator[str]:
    held = Counter(address for lease in leases for address in lease.addresses)
    yield from (f"{address} is leased {count} times" for address, count in held.items() if count > 1)
    seen = Counter(address for found in inside.values() for address in found)
    yield from (f"{address} stands in {count} pods" for address, count in seen.items() if count > 1)
    yield from (f"{lease.container} is {lease.state}" for lease in leases if lease.state != "active")
    yield from (f"{lease.container} has a lease and no pod" for lease in leases if lease.container not in inside)
    expected = {lease.container: lease.addresses for lease in leases}
    for pod, found in inside.items():
        if expected.get(pod, frozenset()) != found:
            yield f"{pod} has {sorted(found)}, its lease {sorted(expected.get(pod, ()))}"


def _leases_and_node(wanted: set[str], node: Namespace) -> Iterator[str]:
    present, routed = ports(node), set(PORT.findall(node.run("ip", "route", "show", "table", "all")))
    yield from (f"{port} has a lease and is not on the node" for port in sorted(wanted - present))
    yield from (f"{port} is on the node without a lease" for port in sorted(present - wanted))
    yield from (f"{port} is in the ruleset without a lease" for port in sorted(named_in_nft(node) - wanted))
    yield from (f"{port} has a route without a lease" for port in sorted(routed - wanted))


def leased(state: Path) -> list[Leased]:
    path = state / "leases.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as sql:
        rows = sql.execute("SELECT id, container_id, ifname, state, host_veth FROM leases").fetchall()
        numbers = sql.execute("SELECT lease, number FROM addresses WHERE lease IS NOT NULL").fetchall()
    return [
        Leased(
            container=container,
            ifname=ifname,
            state=state,
            port=port,
            addresses=frozenset(str(ipaddress.ip_address(number)) for lease, number in numbers if lease == key),
        )
        for key, container, ifname, state, port in rows
    ]


def addresses(pod: Namespace) -> frozenset[str]:
    """The pod's addresses of the network, on whatever interface."""
    links = json.loads(pod.run("ip", "-json", "-4", "address") or "[]")
    found = [ipaddress.ip_address(each["local"]) for link in links for each in link.get("addr_info", ())]
    return frozenset(str(address) for address in found if address in PODS)


def ports(node: Namespace) -> set[str]:
    links = json.loads(node.run("ip", "-json", "link") or "[]")
    return {link["ifname"] for link in links if PORT.fullmatch(link.get("ifname", ""))}


def named_in_nft(node: Namespace) -> set[str]:
    """Every port that a set or map of any table names, in a key or a comment."""
    return set(PORT.findall(node.run("nft", "list", "ruleset")))
