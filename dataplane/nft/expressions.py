"""What a rule does, as the kernel's own little instructions over registers.

Only what changes with Services is written here; the static rules come from nft text. Statements (`ct_mark_set_numgen`,
`goto`, …) are what callers compose a rule of; each is a tuple of expressions exactly as nft 1.0.6 would compile it, so
that its listing reads as the statement again. An expression of a rule that someone else wrote is `Other`: its bytes are
kept, so two dumps can still be compared.
"""

import msgspec

from dataplane.nft import values
from dataplane.nft.values import Verdict

REGISTER = 1  # NFT_REG_1, the register nft itself would choose
VERDICT_REGISTER = 0  # NFT_REG_VERDICT


class NumgenIncrement(msgspec.Struct, frozen=True, gc=False):
    """Load `offset`, `offset + 1`, … and start over after `modulus` numbers. The kernel keeps the counter in the rule."""

    modulus: int
    offset: int = 0

    def __post_init__(self) -> None:
        if self.modulus < 1 or self.offset < 0 or self.offset + self.modulus - 1 > values.MARK_MAX:
            raise InvalidNumgen(self.modulus, self.offset)

    def __str__(self) -> str:
        return f"numgen inc mod {self.modulus} offset {self.offset} → reg 1"


class LoadCtMark(msgspec.Struct, frozen=True, gc=False):
    """Load the conntrack mark of the packet's flow."""

    def __str__(self) -> str:
        return "ct mark → reg 1"


class StoreCtMark(msgspec.Struct, frozen=True, gc=False):
    """Store into the conntrack mark of the packet's flow. Has no validate hook, so it is cheap to replace."""

    def __str__(self) -> str:
        return "reg 1 → ct mark"


class StoreMetaMark(msgspec.Struct, frozen=True, gc=False):
    """Store into the packet's mark. Its validate hook makes the kernel check the whole table again."""

    def __str__(self) -> str:
        return "reg 1 → meta mark"


class LoadValue(msgspec.Struct, frozen=True, gc=False):
    """Load constant bytes."""

    value: bytes

    def __str__(self) -> str:
        return f"0x{self.value.hex()} → reg 1"


class Lookup(msgspec.Struct, frozen=True, gc=False):
    """Look the loaded value up in a map and load what it maps to; a rule ends at a key that is not there."""

    map_name: str

    def __str__(self) -> str:
        return f"map @{self.map_name} → reg 1"


class SetVerdict(msgspec.Struct, frozen=True, gc=False):
    """Decide what happens to the packet."""

    verdict: Verdict

    def __str__(self) -> str:
        return str(self.verdict)


class Counter(msgspec.Struct, frozen=True, gc=False):
    """Count packets and bytes. What it has counted is no part of the value: it never makes two rules differ."""

    def __str__(self) -> str:
        return "counter"


class Other(msgspec.Struct, frozen=True, gc=False):
    """An expression podwire does not write itself, with its attributes as the kernel dumps them."""

    name: str
    attributes: bytes

    def __str__(self) -> str:
        return f"{self.name} {self.attributes.hex()}"


Expression = (
    NumgenIncrement
    | LoadCtMark
    | StoreCtMark
    | StoreMetaMark
    | LoadValue
    | Lookup
    | SetVerdict
    | Counter
    | Other
)  # fmt: skip
Statement = tuple[Expression, ...]


class InvalidNumgen(ValueError):
    """The numbers would not fit a 32-bit mark, or there are none."""

    def __init__(self, modulus: int, offset: int) -> None:
        super().__init__(modulus, offset)
        self.modulus = modulus
        self.offset = offset

    def __str__(self) -> str:
        return f"numgen modulus {self.modulus} offset {self.offset}: need 1 ≤ modulus and offset + modulus ≤ 2^32"


def ct_mark_set_numgen(modulus: int, offset: int) -> Statement:
    """`ct mark set numgen inc mod MODULUS offset OFFSET`: strict round robin."""
    return (NumgenIncrement(modulus, offset), StoreCtMark())


def ct_mark_set(number: int) -> Statement:
    """`ct mark set NUMBER`"""
    return (LoadValue(values.mark(number)), StoreCtMark())


def ct_mark_set_jump(number: int, chain: str) -> Statement:
    """`ct mark set NUMBER jump CHAIN`"""
    return (*ct_mark_set(number), *jump(chain))


def ct_mark_set_map(map_name: str) -> Statement:
    """`ct mark set ct mark map @MAP`"""
    return (LoadCtMark(), Lookup(map_name), StoreCtMark())


def meta_mark_set(number: int) -> Statement:
    """`meta mark set NUMBER`"""
    return (LoadValue(values.mark(number)), StoreMetaMark())


def meta_mark_set_jump(number: int, chain: str) -> Statement:
    """`meta mark set NUMBER jump CHAIN`"""
    return (*meta_mark_set(number), *jump(chain))


def meta_mark_set_goto(number: int, chain: str) -> Statement:
    """`meta mark set NUMBER goto CHAIN`"""
    return (*meta_mark_set(number), *goto(chain))


def goto(chain: str) -> Statement:
    return (SetVerdict(Verdict("goto", chain)),)


def jump(chain: str) -> Statement:
    return (SetVerdict(Verdict("jump", chain)),)


def verdict(kind: values.VerdictKind) -> Statement:
    """A verdict without a chain: `accept`, `drop`, `return`, `continue`."""
    return (SetVerdict(Verdict(kind)),)


def counter() -> Statement:
    return (Counter(),)
