"""The nft objects that change with Services, and the operations on them: plain immutable values.

Names and comments are checked when an operation that writes them is made, so that no unbounded or unreadable text
reaches the kernel: what `nft list ruleset` prints of ours must load back. What is read back may have been written by
anybody, so the objects themselves accept anything. Everything else is the kernel's to judge, at commit.
"""

import re
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import msgspec

from dataplane.nft.expressions import Expression
from dataplane.nft.values import Verdict

NAME_LENGTH_MAX = 255  # NFT_NAME_MAXLEN counts the final NUL
COMMENT_BYTES_MAX = 128  # NFTNL_UDATA_COMMENT_MAXLEN
# nft prints both bare: a name must be one `string` token of its scanner, a comment cannot escape its closing quote.
_NAME = re.compile(r"[A-Za-z_.][A-Za-z0-9/\\_.-]*", re.ASCII)
_UNQUOTABLE = re.compile(r'["\x00-\x1f\x7f\ud800-\udfff]')


class Family(IntEnum):
    """NFPROTO_*: which packets a table sees."""

    INET = 1
    IP = 2
    BRIDGE = 7
    IP6 = 10


class Table(msgspec.Struct, frozen=True):
    family: Family
    name: str

    def __post_init__(self) -> None:
        check_name("table", self.name)

    def __str__(self) -> str:
        return f"{self.family.name.lower()} {self.name}"


class Chain(msgspec.Struct, frozen=True, gc=False):
    """A regular chain: base chains belong to the skeleton, which is nft text."""

    name: str
    comment: str = ""


class Rule(msgspec.Struct, frozen=True, gc=False):
    chain: str
    expressions: tuple[Expression, ...]
    comment: str = ""


class InstalledRule(NamedTuple):
    """A rule the kernel has, with the handle by which it is replaced or deleted."""

    handle: int
    rule: Rule


class Limit(msgspec.Struct, frozen=True, gc=False):
    """Matches what comes beyond so many bytes a second. A quiet second and `burst` bytes may be saved up (nft_limit.c)."""

    rate: int
    burst: int


class Element(msgspec.Struct, frozen=True, gc=False):
    """A member of a set, or a key of a map with its value. `timeout` is in milliseconds; None is the set's own.

    In a set of intervals over a concatenation, `end` is the last key that belongs to it. In a set whose elements have a
    limit each, a packet is in the set only while the element's limit is exceeded.
    """

    key: bytes
    value: bytes | Verdict | None = None
    comment: str = ""
    timeout: int | None = None
    end: bytes | None = None
    limit: Limit | None = None


class Passed(NamedTuple):
    """What a counter has seen."""

    packets: int
    bytes: int


class Expiring(NamedTuple):
    """An element that the kernel deletes by itself, and when: in milliseconds from its being read."""

    element: Element
    milliseconds: int


class AddChain(msgspec.Struct, frozen=True, gc=False):
    """Make a chain; one that exists stays as it is."""

    chain: Chain

    def __post_init__(self) -> None:
        check_name("chain", self.chain.name)
        check_comment(self.chain.comment)


class DeleteChain(msgspec.Struct, frozen=True, gc=False):
    """Delete a chain with its rules; EBUSY while a rule or a map element of the table still leads to it."""

    name: str


class FlushChain(msgspec.Struct, frozen=True, gc=False):
    """Delete every rule of a chain."""

    name: str


class AddRule(msgspec.Struct, frozen=True, gc=False):
    """Append a rule to its chain."""

    rule: Rule

    def __post_init__(self) -> None:
        check_comment(self.rule.comment)


class ReplaceRule(msgspec.Struct, frozen=True, gc=False):
    """Put a rule in the place of the one with that handle. Whether the new one keeps it depends on the kernel."""

    rule: Rule
    handle: int

    def __post_init__(self) -> None:
        check_comment(self.rule.comment)


class DeleteRule(msgspec.Struct, frozen=True, gc=False):
    chain: str
    handle: int


class AddElements(msgspec.Struct, frozen=True, gc=False):
    """Add elements; one that exists with the same value stays, with another value it is EEXIST."""

    set_name: str
    elements: tuple[Element, ...]

    def __post_init__(self) -> None:
        for comment in {element.comment for element in self.elements}:
            check_comment(comment)


class DeleteElements(msgspec.Struct, frozen=True, gc=False):
    """Delete elements by their keys; a key that is not there is ENOENT."""

    set_name: str
    elements: tuple[Element, ...]


Operation = AddChain | DeleteChain | FlushChain | AddRule | ReplaceRule | DeleteRule | AddElements | DeleteElements


class InvalidName(ValueError):
    """nft could not read this name back from its own listing, or the kernel would refuse it."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind = kind
        self.name = name

    def __str__(self) -> str:
        return (
            f"{self.kind} name {self.name!r}: use 1 to {NAME_LENGTH_MAX} of the characters A-Z a-z 0-9 / \\ _ . - "
            "and begin with a letter, _ or ."
        )


class InvalidComment(ValueError):
    """nft could not store this comment, or could not read it back from its own listing."""

    def __init__(self, comment: str) -> None:
        super().__init__(comment)
        self.comment = comment

    def __str__(self) -> str:
        return (
            f"comment {self.comment!r}: use at most {COMMENT_BYTES_MAX} bytes, no quotation mark, no control character"
        )


def check_name(kind: str, name: str) -> None:
    if len(name) > NAME_LENGTH_MAX or not _NAME.fullmatch(name):
        raise InvalidName(kind, name)


@lru_cache(maxsize=64)  # the elements of a Service come one after the other, with the same comment
def check_comment(comment: str) -> None:
    if _UNQUOTABLE.search(comment) or len(comment.encode()) > COMMENT_BYTES_MAX:
        raise InvalidComment(comment)


def fit_comment(text: str) -> str:
    """Make any text a comment: what cannot be quoted becomes `?`, what is too long ends in `…`."""
    readable = _UNQUOTABLE.sub("?", text)
    if len(readable.encode()) <= COMMENT_BYTES_MAX:
        return readable
    ellipsis = "…"
    kept = readable.encode()[: COMMENT_BYTES_MAX - len(ellipsis.encode())]
    return kept.decode(errors="ignore") + ellipsis
