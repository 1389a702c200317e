"""What the rules of the proxy's table consist of, as the tracer understands them.

Nothing here runs: `machine` does. A rule is a sequence of statements; a value is computed from the packet and its
connection, as the bytes that stand in maps.
"""

from typing import Literal

import msgspec

from dataplane.nft.values import Verdict

Field = Literal[
    "source",
    "source's last 12 bytes",
    "destination",
    "protocol",
    "port",
    "source port",
    "ct mark",
    "ct state",
    "ct status",
    "ct direction",
    "original source",
    "original destination",
    "original port",
    "source type",
    "destination type",
    "interface",
    "interface number",
    "outgoing interface",
]


class Fields(msgspec.Struct, frozen=True):
    """`ip saddr . meta l4proto`: fields one after the other, each in whole registers. `mask` is the connection mark's."""

    names: tuple[Field, ...]
    mask: int = 0xFFFFFFFF


class Turn(msgspec.Struct, frozen=True):
    """`numgen inc mod MODULUS offset OFFSET`"""

    modulus: int
    offset: int


class Constant(msgspec.Struct, frozen=True):
    value: bytes


class Mapped(msgspec.Struct, frozen=True):
    """`VALUE map @NAME`; where the map has no such key, the rule ends."""

    value: "Value"
    map_name: str


Value = Fields | Turn | Constant | Mapped


class Range(msgspec.Struct, frozen=True):
    """Both ends belong to it. Text stands for interface names, where a final * means any ending."""

    first: bytes | str
    last: bytes | str


class Match(msgspec.Struct, frozen=True):
    """Go on with the rule if the value is one of these, or, negated, none of them."""

    value: Fields
    among: tuple[Range, ...]
    is_negated: bool = False


class InSet(msgspec.Struct, frozen=True):
    """Go on with the rule if the value is in the set, or, negated, is not."""

    value: Fields
    set_name: str
    is_negated: bool = False


class Dispatch(msgspec.Struct, frozen=True):
    """`VALUE vmap @NAME`: do what the map says."""

    value: Fields
    map_name: str


class SetMark(msgspec.Struct, frozen=True):
    """`ct mark set VALUE`"""

    value: Value


class Change(msgspec.Struct, frozen=True):
    """`add`, `update` or `delete` an element of a map."""

    kind: Literal["add", "update", "delete"]
    map_name: str
    key: Fields
    value: Value


class Decide(msgspec.Struct, frozen=True):
    verdict: Verdict


class Translate(msgspec.Struct, frozen=True):
    """`dnat to VALUE`"""

    value: Value


class Rewrite(msgspec.Struct, frozen=True):
    """`ip saddr set ADDRESS`: in the packet alone, not in what conntrack knows of it."""

    field: Literal["source", "destination"]
    address: bytes


class Masquerade(msgspec.Struct, frozen=True):
    pass


class Reject(msgspec.Struct, frozen=True):
    with_reset: bool = False


class Note(msgspec.Struct, frozen=True):
    """Changes nothing for the packet: counters and comments."""


class Unmet(msgspec.Struct, frozen=True):
    """What a rule asks of a segment in the middle of a connection: no first packet meets it, whatever follows."""


Statement = (
    Unmet | Match | InSet | Dispatch | SetMark | Change | Decide | Translate | Rewrite | Masquerade | Reject | Note
)


class Rule(msgspec.Struct, frozen=True):
    text: str
    statements: tuple[Statement, ...]


class Hook(msgspec.Struct, frozen=True):
    """Where a base chain is attached."""

    name: str
    priority: int
    is_nat: bool


class Chain(msgspec.Struct, frozen=True):
    rules: tuple[Rule, ...]
    hook: Hook | None = None
