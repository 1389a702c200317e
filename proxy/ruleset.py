"""The nft text of the proxy's table: the part that stands still, from ruleset.nft and affinity.nft beside this file.

The table carries the digest of the text it was made from, so that a proxy of another version knows that it must take
over. The number of rules a chain must have is counted in the text, so that a missing one is noticed.
"""

import hashlib
import importlib.resources
import re
from collections.abc import Mapping
from string import Template
from typing import Final

from dataplane.nft.objects import Family, Table
from proxy import layout

_ADDRESS_TYPES: Final = {Family.IP: "ipv4_addr", Family.IP6: "ipv6_addr"}
_CHAIN: Final = re.compile(r"^\tchain (\S+) \{\n(.*?)^\t\}$", re.MULTILINE | re.DOTALL)
_NOT_A_RULE: Final = ("type ", "comment ", "#")


class Ruleset:
    """The text for one address family."""

    def __init__(self, family: Family) -> None:
        self.table = Table(family, layout.TABLE)
        self._affinity = _template("affinity.nft")
        skeleton = _template("ruleset.nft")
        digest = hashlib.sha256(f"{skeleton.template}\0{self._affinity.template}".encode()).hexdigest()[:16]
        self.layout = f"layout {digest}"
        self.skeleton = skeleton.substitute(self._names, layout=digest)

    @property
    def _names(self) -> dict[str, str]:
        return {"family": self.table.family.name.lower(), "address": _ADDRESS_TYPES[self.table.family]}

    @property
    def replacement(self) -> str:
        """Text that makes the table anew in whatever state it is, present or not."""
        return f"table {self.table}\ndelete table {self.table}\n\n{self.skeleton}"

    def affinity_chains(self, seconds: int) -> str:
        """Text that makes the chains of one timeout, or makes them whole again."""
        return self._affinity.substitute(self._names, seconds=seconds)

    def rule_counts(self) -> Mapping[str, int]:
        """How many rules each chain of the skeleton must have."""
        return _rule_counts(self.skeleton)

    def affinity_rule_counts(self, seconds: int) -> Mapping[str, int]:
        """How many rules each chain of one timeout must have."""
        return _rule_counts(self.affinity_chains(seconds))


def _template(name: str) -> Template:
    return Template(importlib.resources.files("proxy").joinpath(name).read_text(encoding="utf-8"))


def _rule_counts(text: str) -> dict[str, int]:
    return {name: sum(map(_is_rule, body.splitlines())) for name, body in _CHAIN.findall(text)}


def _is_rule(line: str) -> bool:
    statement = line.strip()
    return bool(statement) and not statement.startswith(_NOT_A_RULE)
