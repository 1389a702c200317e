"""What the kernel sends, as values: dumped objects, answers to a batch, and notices of changes.

Bytes that cannot be such a message raise MalformedMessage and nothing else. Objects that somebody else put into the
table, with attributes podwire never uses, are read as far as they can be compared.
"""

from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import NamedTuple

import msgspec

from dataplane.nft import bytecode, wire
from dataplane.nft.objects import Chain, Element, Expiring, InstalledRule, Limit, Passed, Rule
from dataplane.nft.values import Verdict
from dataplane.nft.wire import MalformedMessage

_NLMSG = wire.NLMSG_HEADER.size
_NFGEN = wire.MESSAGE.size - _NLMSG

WHAT = {
    wire.NFT_MSG_NEWTABLE: "new table",
    wire.NFT_MSG_DELTABLE: "delete table",
    wire.NFT_MSG_NEWCHAIN: "new chain",
    wire.NFT_MSG_DELCHAIN: "delete chain",
    wire.NFT_MSG_NEWRULE: "new rule",
    wire.NFT_MSG_DELRULE: "delete rule",
    wire.NFT_MSG_NEWSET: "new set",
    wire.NFT_MSG_DELSET: "delete set",
    wire.NFT_MSG_NEWSETELEM: "new element",
    wire.NFT_MSG_DELSETELEM: "delete element",
}


_IS_COMMENT = wire.ATTRIBUTE.pack(0, wire.NFTA_SET_ELEM_USERDATA)[1:] + bytes((wire.UDATA_COMMENT,))
# What a counter of an element begins with, after its length.
_COUNTER = wire.ATTRIBUTE.pack(0, wire.NFTA_SET_ELEM_EXPR)[2:] + wire.string(wire.NFTA_EXPR_NAME, "counter")


class Message(NamedTuple):
    """One netlink message. `family` and `body` (its attributes) are those of nfnetlink messages."""

    kind: int
    flags: int
    sequence: int
    port_id: int
    payload: bytes

    @property
    def family(self) -> int:
        return self.payload[0] if self.payload else 0

    @property
    def body(self) -> bytes:
        return self.payload[_NFGEN:]


class Answer(msgspec.Struct, frozen=True):
    """The kernel's verdict on one message of ours. `offset` is where in it the refused attribute begins, 0 if unknown."""

    sequence: int
    code: int
    detail: str = ""
    offset: int = 0


class Generation(msgspec.Struct, frozen=True):
    """The notice that ends a transaction: the ruleset's new number and who made it."""

    number: int
    process_id: int
    command: str


def messages(datagram: bytes) -> Iterator[Message]:
    """The messages of one datagram. Raises MalformedMessage."""
    position, end = 0, len(datagram)
    while end - position >= _NLMSG:
        length, kind, flags, sequence, port_id = wire.NLMSG_HEADER.unpack_from(datagram, position)
        if length < _NLMSG or position + length > end:
            raise MalformedMessage("a message", datagram[position:])
        yield Message(kind, flags, sequence, port_id, datagram[position + _NLMSG : position + length])
        position += (length + 3) & ~3


def answer(message: Message) -> Answer:
    """Read NLMSG_ERROR, or the error number that NLMSG_DONE of a failed dump carries. Code 0 is success."""
    if len(message.payload) < 4:
        raise MalformedMessage("an error number", message.payload)
    code = -int.from_bytes(message.payload[:4], "little", signed=True)
    if message.kind != wire.NLMSG_ERROR or not message.flags & wire.NLM_F_ACK_TLVS:
        return Answer(message.sequence, code)
    fields = wire.fields(message.payload[_explanation(message) :])
    text = wire.read_string(fields.get(wire.NLMSGERR_ATTR_MSG, b""))
    offset = int.from_bytes(fields.get(wire.NLMSGERR_ATTR_OFFS, b""), "little")
    return Answer(message.sequence, code, text, offset)


def _explanation(message: Message) -> int:
    # After the error number comes the header of the refused message and, unless capped, all of it.
    start = 4 + _NLMSG
    if message.flags & wire.NLM_F_CAPPED or len(message.payload) < start:
        return start
    (length,) = wire.LENGTH.unpack_from(message.payload, 4)
    return 4 + ((int(length) + 3) & ~3)


def fields(message: Message) -> dict[int, bytes]:
    return wire.fields(message.body)


def table_name(found: dict[int, bytes]) -> str:
    """Which table an object is in, or for a table's own message its name."""
    return wire.read_string(found.get(wire.NFTA_TABLE_NAME, b""))


def chain(found: dict[int, bytes]) -> Chain:
    return Chain(
        wire.read_string(found.get(wire.NFTA_CHAIN_NAME, b"")),
        wire.read_comment(found.get(wire.NFTA_CHAIN_USERDATA, b"")),
    )


def rule(found: dict[int, bytes]) -> InstalledRule:
    installed = Rule(
        wire.read_string(found.get(wire.NFTA_RULE_CHAIN, b"")),
        bytecode.decode(found.get(wire.NFTA_RULE_EXPRESSIONS, b"")),
        wire.read_comment(found.get(wire.NFTA_RULE_USERDATA, b"")),
    )
    return InstalledRule(wire.read_number(found.get(wire.NFTA_RULE_HANDLE, b"")), installed)


def elements(messages: Iterable[dict[int, bytes]]) -> Iterator[Element]:
    """The elements in some messages of a dump, by their keys.

    The kernel sends them in the order of its hash table. Whoever goes through 50,000 of them by their keys afterwards, as a
    restart does, meets them in an order in which they lie in memory; else it would wait for memory most of the time.
    """
    shapes: dict[int, _Shape | None] = {}
    payloads = [
        payload
        for found in messages
        for kind, payload in wire.attributes(found.get(wire.NFTA_SET_ELEM_LIST_ELEMENTS, b""))
        if kind == wire.NFTA_LIST_ELEM
    ]
    for payload in sorted(payloads):
        if len(payload) not in shapes:
            shapes[len(payload)] = _shape(payload)
        shape = shapes[len(payload)]
        yield (shape and shape.read(payload)) or _element(wire.fields(payload))


class _Shape(NamedTuple):
    """Where the parts stand in an element of no more than a key, bytes or a goto as its value, a counter and a comment.

    A restart reads 80,000 of them for 10,000 Services. They stand in the order in which the kernel writes them
    (nf_tables_fill_setelem), and those of one length mostly look alike: they are cut out without a table of attributes for
    each. `fixed` is what must be the same for that: all headers but the comment's.
    """

    parts: Struct
    fixed: tuple[bytes, bytes, bytes]
    value: Callable[[bytes], bytes | Verdict | None]

    def read(self, payload: bytes) -> Element | None:
        """None for one that is of this length, but not of this shape."""
        to_key, key, to_value, value, counter, rest = self.parts.unpack(payload)
        if (to_key, to_value, counter) != self.fixed:
            return None
        comment = _comment(rest) if rest else ""
        return None if comment is None else Element(key, self.value(value), comment)


class _Value(NamedTuple):
    """How long the headers of an element's value are, the value itself, and both with padding; and how it is read."""

    headers: int
    length: int
    size: int
    read: Callable[[bytes], bytes | Verdict | None]


def _shape(payload: bytes) -> _Shape | None:
    key_length, position = _length(wire.NFTA_SET_ELEM_KEY, payload[:8])
    value = _value(payload[position : position + len(_GOTO_HEADERS)])
    if not key_length or len(payload) < position + value.size:
        return None
    parts = f"8s{key_length}s{-key_length % 4}x{value.headers}s{value.length}s{-value.length % 4}x"
    position += value.size
    if payload[position + 2 : position + 2 + len(_COUNTER)] == _COUNTER:
        size = wire.ATTRIBUTE.unpack_from(payload, position)[0] + 3 & ~3
        parts += f"{2 + len(_COUNTER)}s{size - 2 - len(_COUNTER)}x"
        position += size
    else:
        parts += "0s"
    if position > len(payload):
        return None
    layout = Struct(f"={parts}{len(payload) - position}s")
    to_key, _, to_value, _, counter, _ = layout.unpack(payload)
    return _Shape(layout, (to_key, to_value, counter), value.read)


def _value(headers: bytes) -> _Value:
    """What these headers announce, if they are a value's at all."""
    length, size = _length(wire.NFTA_SET_ELEM_DATA, headers[:8])
    if length:
        return _Value(8, length, size, _as_it_is)
    chain = wire.ATTRIBUTE.unpack_from(headers, len(headers) - 4)[0] - 4 if len(headers) == len(_GOTO_HEADERS) else 0
    if chain > 0 and headers == _goto_headers(chain):
        return _Value(len(headers), chain, len(headers) + (chain + 3 & ~3), _goto)
    return _Value(0, 0, 0, _nothing)


def _goto_headers(chain_length: int) -> bytes:
    """What stands before the name of the chain, with its final NUL, that an element leads to."""
    code = wire.attribute(wire.NFTA_VERDICT_CODE, wire.I32.pack(wire.VERDICT_CODES["goto"]))
    verdict = 4 + len(code) + 4 + (chain_length + 3 & ~3)
    pack = wire.ATTRIBUTE.pack
    outer = pack(verdict + 4, wire.NFTA_SET_ELEM_DATA) + pack(verdict, wire.NFTA_DATA_VERDICT)
    return outer + code + pack(4 + chain_length, wire.NFTA_VERDICT_CHAIN)


_GOTO_HEADERS = _goto_headers(0)


def _as_it_is(value: bytes) -> bytes:
    return value


def _goto(chain: bytes) -> Verdict:
    return Verdict("goto", wire.read_string(chain))


def _nothing(_: bytes) -> None:
    return None


def _length(kind: int, header: bytes) -> tuple[int, int]:
    """How long the bytes are that such an attribute holds by these two headers, and how long it is; 0, 0 if it is not that."""
    if len(header) < 8:
        return 0, 0
    length, found = wire.ATTRIBUTE.unpack_from(header)
    inner_length, inner_kind = wire.ATTRIBUTE.unpack_from(header, 4)
    is_that = (found, inner_kind) == (kind, wire.NFTA_DATA_VALUE) and length == 4 + (inner_length + 3 & ~3)
    return (inner_length - 4, length) if is_that and inner_length >= 4 else (0, 0)


def _comment(payload: bytes) -> str | None:
    """The comment, if these attributes are nothing else."""
    size = len(payload)
    if size < 8 or payload[1:5] != _IS_COMMENT or payload[5] + 6 != payload[0] or payload[0] + 3 & ~3 != size:
        return None
    return payload[6 : 5 + payload[5]].decode(errors="replace")


def _element(found: dict[int, bytes]) -> Element:
    # A catch-all element has no key; podwire writes none.
    key = bytecode.read_value(found[wire.NFTA_SET_ELEM_KEY]) if wire.NFTA_SET_ELEM_KEY in found else b""
    end = bytecode.read_value(found[wire.NFTA_SET_ELEM_KEY_END]) if wire.NFTA_SET_ELEM_KEY_END in found else None
    if not isinstance(key, bytes) or isinstance(end, Verdict):
        raise MalformedMessage("a key", found[wire.NFTA_SET_ELEM_KEY])
    value, timeout = found.get(wire.NFTA_SET_ELEM_DATA), found.get(wire.NFTA_SET_ELEM_TIMEOUT)
    return Element(
        key,
        None if value is None else bytecode.read_value(value),
        wire.read_comment(found.get(wire.NFTA_SET_ELEM_USERDATA, b"")),
        None if timeout is None else wire.read_number(timeout),
        end,
        _limit(wire.fields(found.get(wire.NFTA_SET_ELEM_EXPR, b""))),
    )


def _limit(expression: dict[int, bytes]) -> Limit | None:
    if wire.read_string(expression.get(wire.NFTA_EXPR_NAME, b"")) != "limit":
        return None
    found = wire.fields(expression.get(wire.NFTA_EXPR_DATA, b""))
    rate, burst = found.get(wire.NFTA_LIMIT_RATE, b""), found.get(wire.NFTA_LIMIT_BURST, b"")
    return Limit(wire.read_number(rate), wire.read_number(burst))


def counters(found: dict[int, bytes]) -> Iterator[tuple[bytes, Passed]]:
    """The key and the counter of each element that has one, in one message of a dump."""
    for kind, payload in wire.attributes(found.get(wire.NFTA_SET_ELEM_LIST_ELEMENTS, b"")):
        if kind == wire.NFTA_LIST_ELEM:
            fields = wire.fields(payload)
            key, statement = fields.get(wire.NFTA_SET_ELEM_KEY), wire.fields(fields.get(wire.NFTA_SET_ELEM_EXPR, b""))
            value = bytecode.read_value(key) if key is not None else None
            if isinstance(value, bytes) and wire.read_string(statement.get(wire.NFTA_EXPR_NAME, b"")) == "counter":
                yield value, _passed(wire.fields(statement.get(wire.NFTA_EXPR_DATA, b"")))


def expiring(found: dict[int, bytes]) -> Iterator[Expiring]:
    """The elements that expire, in one message of a dump."""
    for kind, payload in wire.attributes(found.get(wire.NFTA_SET_ELEM_LIST_ELEMENTS, b"")):
        if kind == wire.NFTA_LIST_ELEM:
            fields = wire.fields(payload)
            if wire.NFTA_SET_ELEM_EXPIRATION in fields:
                yield Expiring(_element(fields), wire.read_number(fields[wire.NFTA_SET_ELEM_EXPIRATION]))


def _passed(found: dict[int, bytes]) -> Passed:
    return Passed(
        wire.read_number(found.get(wire.NFTA_COUNTER_PACKETS, b"")),
        wire.read_number(found.get(wire.NFTA_COUNTER_BYTES, b"")),
    )


def element_at(message: bytes, offset: int) -> int | None:
    """Which element of a message of ours begins at this offset into it; None if none does."""
    _, kind, *_ = wire.NLMSG_HEADER.unpack_from(message)
    if kind not in {wire.NFT_MSG_NEWSETELEM, wire.NFT_MSG_DELSETELEM}:
        return None
    for attribute, start, payload in _positions(message, wire.MESSAGE.size):
        if attribute == wire.NFTA_SET_ELEM_LIST_ELEMENTS:
            starts = [start + inner for _, inner, _ in _positions(payload, 0)]
            return starts.index(offset - 4) if offset - 4 in starts else None
    return None


def _positions(payload: bytes, position: int) -> Iterator[tuple[int, int, bytes]]:
    """Type, position and value of each attribute from a position on."""
    for kind, value in wire.attributes(payload[position:]):
        yield kind, position, value
        position += (len(value) + 4 + 3) & ~3


def generation(found: dict[int, bytes]) -> Generation:
    return Generation(
        wire.read_number(found.get(wire.NFTA_GEN_ID, b"")),
        wire.read_number(found.get(wire.NFTA_GEN_PROC_PID, b"")),
        wire.read_string(found.get(wire.NFTA_GEN_PROC_NAME, b"")),
    )
