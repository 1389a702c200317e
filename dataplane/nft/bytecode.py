"""Expressions as the kernel's bytes, and back.

The attributes stand in the order in which the kernel dumps them (the `nla_put` calls of each expression's dump
function), and nests carry no NLA_F_NESTED as in a dump, so what was written and what is read back are equal byte by byte
and a restart needs no understanding of expressions to see that nothing changed.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from dataplane.nft import wire
from dataplane.nft.expressions import (
    Counter,
    Expression,
    LoadCtMark,
    LoadValue,
    Lookup,
    NumgenIncrement,
    Other,
    SetVerdict,
    Statement,
    StoreCtMark,
    StoreMetaMark,
)
from dataplane.nft.values import Verdict
from dataplane.nft.wire import MalformedMessage, attribute, string, u32, u64

NFT_REG_VERDICT = 0
NFT_REG_1 = 1
NFTA_CT_DREG, NFTA_CT_KEY, NFTA_CT_SREG = 1, 2, 4
NFT_CT_MARK = 3
NFTA_META_KEY, NFTA_META_SREG = 2, 3
NFT_META_MARK = 3
NFTA_NG_DREG, NFTA_NG_MODULUS, NFTA_NG_TYPE, NFTA_NG_OFFSET = 1, 2, 3, 4
NFT_NG_INCREMENTAL = 0
NFTA_LOOKUP_SET, NFTA_LOOKUP_SREG, NFTA_LOOKUP_DREG, NFTA_LOOKUP_FLAGS = 1, 2, 3, 5
NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA = 1, 2
NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS = 1, 2

_VERDICT_KINDS = {code: kind for kind, code in wire.VERDICT_CODES.items()}


def _expression(name: str, attributes: bytes) -> bytes:
    body = string(wire.NFTA_EXPR_NAME, name) + attribute(wire.NFTA_EXPR_DATA, attributes)
    return attribute(wire.NFTA_LIST_ELEM, body)


_LOAD_CT_MARK = _expression("ct", u32(NFTA_CT_DREG, NFT_REG_1) + u32(NFTA_CT_KEY, NFT_CT_MARK))
_STORE_CT_MARK = _expression("ct", u32(NFTA_CT_SREG, NFT_REG_1) + u32(NFTA_CT_KEY, NFT_CT_MARK))
_STORE_META_MARK = _expression("meta", u32(NFTA_META_KEY, NFT_META_MARK) + u32(NFTA_META_SREG, NFT_REG_1))
_COUNTER = _expression("counter", u64(NFTA_COUNTER_BYTES, 0) + u64(NFTA_COUNTER_PACKETS, 0))
_TO_REGISTER_1 = u32(NFTA_IMMEDIATE_DREG, NFT_REG_1)
_TO_VERDICT = u32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT)
_LOOKUP_REGISTERS = u32(NFTA_LOOKUP_SREG, NFT_REG_1) + u32(NFTA_LOOKUP_DREG, NFT_REG_1) + u32(NFTA_LOOKUP_FLAGS, 0)
# The whole of `numgen inc` but its two numbers: modulus, the attributes in between, offset.
_NUMGEN_TEMPLATE = _expression(
    "numgen",
    u32(NFTA_NG_DREG, NFT_REG_1)
    + u32(NFTA_NG_MODULUS, 0)
    + u32(NFTA_NG_TYPE, NFT_NG_INCREMENTAL)
    + u32(NFTA_NG_OFFSET, 0),
)
_NUMGEN_HEAD, _NUMGEN_TYPE = _NUMGEN_TEMPLATE[:-20], _NUMGEN_TEMPLATE[-16:-4]


def encode(expressions: Statement) -> bytes:
    """What NFTA_RULE_EXPRESSIONS holds."""
    return b"".join([_ENCODE[type(expression)](expression) for expression in expressions])


def verdict_attribute(kind: int, verdict: Verdict) -> bytes:
    """A verdict as element value or immediate value."""
    body = attribute(wire.NFTA_VERDICT_CODE, wire.I32.pack(wire.VERDICT_CODES[verdict.kind]))
    if verdict.chain:
        body += string(wire.NFTA_VERDICT_CHAIN, verdict.chain)
    return attribute(kind, attribute(wire.NFTA_DATA_VERDICT, body))


def _numgen(expression: NumgenIncrement) -> bytes:
    pack = wire.U32.pack
    return _NUMGEN_HEAD + pack(expression.modulus) + _NUMGEN_TYPE + pack(expression.offset)


def _load_value(expression: LoadValue) -> bytes:
    value = attribute(wire.NFTA_DATA_VALUE, expression.value)
    return _expression("immediate", _TO_REGISTER_1 + attribute(NFTA_IMMEDIATE_DATA, value))


def _lookup(expression: Lookup) -> bytes:
    return _expression("lookup", string(NFTA_LOOKUP_SET, expression.map_name) + _LOOKUP_REGISTERS)


@lru_cache(maxsize=1024)  # nearly all of them go to the same few chains
def _set_verdict(expression: SetVerdict) -> bytes:
    return _expression("immediate", _TO_VERDICT + verdict_attribute(NFTA_IMMEDIATE_DATA, expression.verdict))


_ENCODE: dict[type[Expression], Callable[[Any], bytes]] = {
    NumgenIncrement: _numgen,
    LoadCtMark: lambda _: _LOAD_CT_MARK,
    StoreCtMark: lambda _: _STORE_CT_MARK,
    StoreMetaMark: lambda _: _STORE_META_MARK,
    LoadValue: _load_value,
    Lookup: _lookup,
    SetVerdict: _set_verdict,
    Counter: lambda _: _COUNTER,
    Other: lambda other: _expression(other.name, other.attributes),
}


def decode(payload: bytes) -> Statement:
    """The inverse of `encode`. Raises MalformedMessage only when the bytes are no list of expressions at all."""
    return _usual_turn(payload) or _decode_all(payload)


@lru_cache(maxsize=4096)  # most rules are the same few
def _decode_all(payload: bytes) -> Statement:
    return tuple(_decode_one(item) for kind, item in wire.attributes(payload) if kind == wire.NFTA_LIST_ELEM)


def _usual_turn(payload: bytes) -> Statement | None:
    """`ct mark set numgen inc …` as `encode` writes it: every Service has a rule of its own, so no cache helps."""
    if len(payload) != len(_NUMGEN_TEMPLATE) + len(_STORE_CT_MARK) or not payload.endswith(_STORE_CT_MARK):
        return None
    numgen = payload[: len(_NUMGEN_TEMPLATE)]
    if numgen[:-20] != _NUMGEN_HEAD or numgen[-16:-4] != _NUMGEN_TYPE:
        return None
    try:
        return NumgenIncrement(wire.read_number(numgen[-20:-16]), wire.read_number(numgen[-4:])), StoreCtMark()
    except ValueError:  # numbers that only somebody else's could have
        return None


@lru_cache(maxsize=4096)  # most expressions of most rules are the same few
def _decode_one(payload: bytes) -> Expression:
    fields = wire.fields(payload)
    name = wire.read_string(fields.get(wire.NFTA_EXPR_NAME, b""))
    body = fields.get(wire.NFTA_EXPR_DATA, b"")
    if name == "counter":
        return Counter()
    known = _recognise(name, body)
    # An expression that says more than ours can (another register, a flag) is not ours.
    if known is None or encode((known,)) != attribute(wire.NFTA_LIST_ELEM, payload):
        return Other(name, body)
    return known


def _recognise(name: str, body: bytes) -> Expression | None:
    recognise = _RECOGNISE.get(name)
    if recognise is None:
        return None
    try:
        return recognise(wire.fields(body))
    except (ValueError, MalformedMessage):  # a value out of range, or bytes of another meaning
        return None


def _recognise_ct(fields: dict[int, bytes]) -> Expression:
    return StoreCtMark() if NFTA_CT_SREG in fields else LoadCtMark()


def _recognise_numgen(fields: dict[int, bytes]) -> Expression:
    number = wire.read_number
    return NumgenIncrement(number(fields.get(NFTA_NG_MODULUS, b"")), number(fields.get(NFTA_NG_OFFSET, b"")))


def _recognise_immediate(fields: dict[int, bytes]) -> Expression:
    value = read_value(fields.get(NFTA_IMMEDIATE_DATA, b""))
    return SetVerdict(value) if isinstance(value, Verdict) else LoadValue(value)


_RECOGNISE: dict[str, Callable[[dict[int, bytes]], Expression]] = {
    "ct": _recognise_ct,
    "meta": lambda _: StoreMetaMark(),
    "numgen": _recognise_numgen,
    "lookup": lambda fields: Lookup(wire.read_string(fields.get(NFTA_LOOKUP_SET, b""))),
    "immediate": _recognise_immediate,
}


def read_value(payload: bytes) -> bytes | Verdict:
    """An element's or immediate's value: bytes or a verdict. Raises MalformedMessage."""
    found = wire.fields(payload)
    if wire.NFTA_DATA_VALUE in found:
        return found[wire.NFTA_DATA_VALUE]
    if wire.NFTA_DATA_VERDICT in found:
        return _read_verdict(found[wire.NFTA_DATA_VERDICT])
    raise MalformedMessage("a value or a verdict", payload)


def _read_verdict(payload: bytes) -> Verdict:
    fields = wire.fields(payload)
    code = int.from_bytes(fields.get(wire.NFTA_VERDICT_CODE, b""), "big", signed=True)
    chain = wire.read_string(fields.get(wire.NFTA_VERDICT_CHAIN, b""))
    try:
        return Verdict(_VERDICT_KINDS[code], chain)
    except (KeyError, ValueError) as error:
        raise MalformedMessage("a verdict", payload) from error
