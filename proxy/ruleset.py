"""The nft text of the proxy's table: the part that stands still, from ruleset.nft, node.nft, localhost.nft and affinity.nft.

The table carries the digest of the text it was made from, so that a proxy of another version knows that it must take
over. The number of rules a chain must have is counted in the text, so that a missing one is noticed.
"""

import hashlib
import importlib.resources
import re
from collections.abc import Iterable, Mapping
from string import Template
from typing import Final

import msgspec

from dataplane.nft.objects import Family, Table
from proxy import layout
from proxy.here import Here
from proxy.model import Network

_CLIENTS: Final = {Family.IP: "ip saddr", Family.IP6: "@nh,96,96"}
_LOOPBACK: Final = {Family.IP: "127.0.0.1", Family.IP6: "::1"}
_LOOPBACKS: Final = {"ip": "127.0.0.0/8", "ip6": "::1"}
_ADDRESS_TYPES: Final = {Family.IP: "ipv4_addr", Family.IP6: "ipv6_addr"}
_CHAIN: Final = re.compile(r"^\tchain (\S+) \{\n(.*?)^\t\}$", re.MULTILINE | re.DOTALL)
_NOT_A_RULE: Final = ("type ", "comment ", "#")
_ABSENT: Final = "\0"  # stands for what is not known; its line is left out


class Ruleset:
    """The text for one address family."""

    def __init__(self, family: Family) -> None:
        self.table = Table(family, layout.TABLE)
        self._affinity = _template("affinity.nft")
        self._node = _template("node.nft")
        self._localhost = _template("localhost.nft")
        skeleton = _template("ruleset.nft")
        templates = (skeleton.template, self._affinity.template, self._node.template, self._localhost.template)
        digest = _digest("\0".join(templates))
        self.layout = f"layout {digest}"
        self.skeleton = skeleton.substitute(self._names, layout=digest)

    @property
    def _names(self) -> dict[str, str]:
        family = self.table.family
        client = _CLIENTS[family]
        return {
            "family": family.name.lower(),
            "address": _ADDRESS_TYPES[family],
            "loopback": _LOOPBACK[family],
            "client": client,
            "client_type": f"typeof {client}",
            "mask": f"{layout.PORT_MASK:#x}",
            "rest": f"{layout.IDS_A_PORT - 1:#x}",
        }

    @property
    def replacement(self) -> str:
        """Text that makes the table anew in whatever state it is, present or not."""
        return f"table {self.table}\ndelete table {self.table}\n\n{self.skeleton}"

    def node(self, here: Here, *, has_node_ports: bool) -> "NodeText":
        """The chains that depend on this node; those for node ports at localhost only where there are or were some."""
        filled = {**self._names, **_node_parts(here, self._names["family"], self._names["loopback"])}
        has_localhost = has_node_ports and filled["borrowed"] != _ABSENT
        digest = _digest(repr((sorted(filled.items()), has_localhost)))
        text = self._node.substitute(filled, digest=digest)
        present = "".join(line for line in text.splitlines(keepends=True) if _ABSENT not in line)
        return NodeText(present + (self._localhost.substitute(filled) if has_localhost else ""), digest)

    def affinity_chains(self, seconds: int) -> str:
        """Text that makes the chains of one timeout, or makes them whole again."""
        return self._affinity.substitute(self._names, seconds=seconds)

    def rule_counts(self) -> Mapping[str, int]:
        """How many rules each chain of the skeleton must have."""
        return _rule_counts(self.skeleton)

    def affinity_rule_counts(self, seconds: int) -> Mapping[str, int]:
        """How many rules each chain of one timeout must have."""
        return _rule_counts(self.affinity_chains(seconds))


class NodeText(msgspec.Struct, frozen=True):
    """node.nft, filled in."""

    text: str
    digest: str

    @property
    def comment(self) -> str:
        return f"{layout.NODE_COMMENT}{self.digest}"

    def rule_counts(self) -> Mapping[str, int]:
        return _rule_counts(self.text)


def _node_parts(here: Here, family: str, loopback: str) -> dict[str, str]:
    own_pods = _own_pods(here, family)
    # Without an address of the node nothing can be borrowed.
    has_localhost = here.localhost_node_ports and here.addresses
    return {
        "from_pods": own_pods,
        "nodeport_addresses": _node_ports(here, family),
        "from_localhost": loopback if has_localhost else _ABSENT,
        "loopbacks": _LOOPBACKS[family],
        "borrowed": str(here.addresses[0]) if has_localhost else _ABSENT,
        "keeps_source": _ABSENT if here.masquerade_all else _keeps_source(here, own_pods),
        "pod_bridge": here.pod_interface if here.pod_interface and not here.masquerade_all else _ABSENT,
        "service_cidrs": _members(here.service_cidrs),
    }


def _own_pods(here: Here, family: str) -> str:
    if here.pod_interface:
        return f'iifname "{here.pod_interface}"'
    return f"{family} saddr {_members(here.pod_cidrs)}" if here.pod_cidrs else _ABSENT


def _keeps_source(here: Here, own_pods: str) -> str:
    """Where it is not known whose a source is, nothing but the node's own is masqueraded for it."""
    if own_pods == _ABSENT:
        return "fib saddr type != local"
    return own_pods if here.pod_interface else f"{own_pods} fib saddr type != local"


def _node_ports(here: Here, family: str) -> str:
    if any(network.prefixlen == 0 for network in here.nodeport_addresses):
        return f"fib daddr type local {family} daddr != {_LOOPBACKS[family]}"
    return f"{family} daddr {_members(here.nodeport_addresses)} fib daddr type local"


def _members(networks: Iterable[Network]) -> str:
    return f"{{ {', '.join(map(str, networks))} }}" if networks else _ABSENT


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _template(name: str) -> Template:
    return Template(importlib.resources.files("proxy").joinpath(name).read_text(encoding="utf-8"))


def _rule_counts(text: str) -> dict[str, int]:
    return {name: sum(map(_is_rule, body.splitlines())) for name, body in _CHAIN.findall(text)}


def _is_rule(line: str) -> bool:
    statement = line.strip()
    return bool(statement) and not statement.startswith(_NOT_A_RULE)
