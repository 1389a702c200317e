"""The proxy's table as the kernel has it here: what it does with a packet, and where it is not as it should be."""

import contextlib
from typing import Final

import msgspec

from dataplane.netlink.linux import LinuxNetlink
from dataplane.nft import objects as nft_objects
from dataplane.nft.linux import LinuxNft
from kube.objects import Family
from proxy import layout, restart
from proxy.restart import Found
from proxy.ruleset import Ruleset
from proxy.state import State
from proxy.tracing import drift, explanation
from proxy.tracing.desired import Desired, fixed_chains
from proxy.tracing.drift import Drift
from proxy.tracing.explanation import Explanation
from proxy.tracing.packet import Host, Packet
from proxy.tracing.table import Rules

FAMILIES: Final[dict[int, tuple[Family, nft_objects.Family]]] = {
    4: ("IPv4", nft_objects.Family.IP),
    6: ("IPv6", nft_objects.Family.IP6),
}


class LiveTable(msgspec.Struct, frozen=True):
    """`explanation` is None where there is no table of this version to follow."""

    explanation: Explanation | None
    drifts: tuple[Drift, ...]


def compare(wanted: Desired, packet: Packet) -> LiveTable:
    """Read the table of this network namespace. Raises DataplaneError, DeadEnd, NotUnderstood."""
    ruleset = Ruleset(FAMILIES[packet.destination.version][1])
    with LinuxNft(ruleset.table) as nft:
        found = restart.read(nft, ruleset)
        remembered = restart.affinity(nft) if found else ()
    if found is None:
        return LiveTable(None, (Drift(f"table {ruleset.table}", "there", "absent: is podwire-proxy running here?"),))
    node = ruleset.node(wanted.here, has_node_ports=wanted.state.has_node_ports or found.has_localhost)
    drifts = drift.of_table(found, ruleset, node)
    if found.layout != ruleset.layout:
        return LiveTable(None, drifts)
    state = State(dict(found.state.elements), found.state.chains)
    state.add(layout.AFFINITY, *remembered)
    rules = Rules(fixed_chains(ruleset, node, _timeouts(found)), state)
    explained = explanation.explain(wanted, packet, rules=rules, host=_host())
    return LiveTable(explained, (*drifts, *drift.of_services(wanted.state, found.state)))


def _timeouts(found: Found) -> frozenset[int]:
    seconds = (layout.affinity_seconds(chain) for chain in found.rule_counts)
    return frozenset(timeout for timeout in seconds if timeout is not None)


def _host() -> Host:
    with contextlib.closing(LinuxNetlink()) as netlink:
        entries = [entry for link in netlink.links() for entry in netlink.addresses(link.name)]
    return Host(addresses=frozenset(entry.interface.ip for entry in entries))
