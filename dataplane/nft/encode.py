"""Operations → the bytes of one nfnetlink batch, which the kernel applies as a whole or not at all.

This is the hot path of a cold start: a cluster of 10,000 Services is 130,000 objects. So elements of one operation share
messages, as many as fit, and every constant part is packed once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import msgspec

from dataplane.nft import bytecode, wire
from dataplane.nft.objects import (
    AddChain,
    AddElements,
    AddRule,
    DeleteChain,
    DeleteElements,
    DeleteRule,
    Element,
    FlushChain,
    Limit,
    Operation,
    ReplaceRule,
    Rule,
    Table,
)
from dataplane.nft.wire import ATTRIBUTE, PADDING, attribute, comment, string, u32, u64

# An attribute's length is 16 bits wide, and all elements of a message are one attribute.
ELEMENTS_BYTES_MAX = 60_000
BATCH_SEQUENCE = 0  # of the message that opens the batch: a refusal of it concerns the batch as a whole
_FIRST_SEQUENCE = 1
_HEADER_LENGTH = wire.MESSAGE.size


class Batch(msgspec.Struct, frozen=True):
    """The bytes to send, and for each message its operation and the position of the first element it carries."""

    payload: bytes
    origins: tuple[tuple[int, int], ...]

    def origin(self, sequence: int) -> tuple[int, int]:
        """Where the message with this sequence number comes from."""
        return self.origins[sequence - _FIRST_SEQUENCE]

    def message(self, sequence: int) -> bytes:
        """The message with this sequence number. Walks the batch: for reporting errors only."""
        position = 0
        for _ in range(sequence + 1):
            start = position
            (length,) = wire.LENGTH.unpack_from(self.payload, start)
            position += length
        return self.payload[start:position]


Message = tuple[int, int, bytes, int]  # type, flags, attributes after the table's, position of the first element


def batch(table: Table, operations: Sequence[Operation], *, generation: int | None = None) -> Batch:
    """Encode a transaction. With a generation the kernel refuses it when the ruleset has changed since."""
    name = string(wire.NFTA_TABLE_NAME, table.name)
    family, overhead, pack = int(table.family), _HEADER_LENGTH + len(name), wire.MESSAGE.pack
    parts = [_begin(generation)]
    origins: list[tuple[int, int]] = []
    sequence = _FIRST_SEQUENCE
    for index, operation in enumerate(operations):
        for kind, flags, body, first in _ENCODE[type(operation)](operation):
            header = pack(overhead + len(body), kind, flags, sequence, 0, family, 0, 0)
            parts += (header, name, body)
            origins.append((index, first))
            sequence += 1
    parts.append(_control(wire.NFNL_MSG_BATCH_END))
    return Batch(b"".join(parts), tuple(origins))


def delete_table(table: Table) -> bytes:
    """A batch that deletes the table and everything in it."""
    message = request(table, wire.NFT_MSG_DELTABLE, sequence=_FIRST_SEQUENCE)
    return _begin(None) + message + _control(wire.NFNL_MSG_BATCH_END)


def request(table: Table, kind: int, attributes: bytes = b"", *, flags: int = 0, sequence: int) -> bytes:
    """A message of its own about the table: a question, with NLM_F_DUMP for a list."""
    body = string(wire.NFTA_TABLE_NAME, table.name) + attributes
    length = _HEADER_LENGTH + len(body)
    return wire.MESSAGE.pack(length, kind, wire.NLM_F_REQUEST | flags, sequence, 0, int(table.family), 0, 0) + body


def _begin(generation: int | None) -> bytes:
    return _control(wire.NFNL_MSG_BATCH_BEGIN, b"" if generation is None else u32(wire.NFNL_BATCH_GENID, generation))


def _control(kind: int, attributes: bytes = b"") -> bytes:
    # The resource field names the subsystem in network byte order.
    resource = int.from_bytes(wire.NFNL_SUBSYS_NFTABLES.to_bytes(2, "big"), "little")
    length = _HEADER_LENGTH + len(attributes)
    header = wire.MESSAGE.pack(length, kind, wire.NLM_F_REQUEST, BATCH_SEQUENCE, 0, 0, 0, resource)
    return header + attributes


_REQUEST = wire.NLM_F_REQUEST
_CREATE = wire.NLM_F_REQUEST | wire.NLM_F_CREATE
_APPEND = wire.NLM_F_REQUEST | wire.NLM_F_CREATE | wire.NLM_F_APPEND
_REPLACE = wire.NLM_F_REQUEST | wire.NLM_F_REPLACE


def _add_chain(operation: AddChain) -> tuple[Message]:
    chain = operation.chain
    body = string(wire.NFTA_CHAIN_NAME, chain.name)
    if chain.comment:
        body += comment(wire.NFTA_CHAIN_USERDATA, chain.comment)
    return ((wire.NFT_MSG_NEWCHAIN, _CREATE, body, 0),)


def _delete_chain(operation: DeleteChain) -> tuple[Message]:
    return ((wire.NFT_MSG_DELCHAIN, _REQUEST, string(wire.NFTA_CHAIN_NAME, operation.name), 0),)


def _flush_chain(operation: FlushChain) -> tuple[Message]:
    return ((wire.NFT_MSG_DELRULE, _REQUEST, string(wire.NFTA_RULE_CHAIN, operation.name), 0),)


def _add_rule(operation: AddRule) -> tuple[Message]:
    return ((wire.NFT_MSG_NEWRULE, _APPEND, _rule(operation.rule), 0),)


def _replace_rule(operation: ReplaceRule) -> tuple[Message]:
    body = _rule(operation.rule) + u64(wire.NFTA_RULE_HANDLE, operation.handle)
    return ((wire.NFT_MSG_NEWRULE, _REPLACE, body, 0),)


def _delete_rule(operation: DeleteRule) -> tuple[Message]:
    body = string(wire.NFTA_RULE_CHAIN, operation.chain) + u64(wire.NFTA_RULE_HANDLE, operation.handle)
    return ((wire.NFT_MSG_DELRULE, _REQUEST, body, 0),)


def _add_elements(operation: AddElements) -> Iterator[Message]:
    encoded = [_element(element) for element in operation.elements]
    return _element_messages(wire.NFT_MSG_NEWSETELEM, _CREATE, operation.set_name, encoded)


def _delete_elements(operation: DeleteElements) -> Iterator[Message]:
    encoded = [_element_key(element) for element in operation.elements]
    return _element_messages(wire.NFT_MSG_DELSETELEM, _REQUEST, operation.set_name, encoded)


def _element_messages(kind: int, flags: int, set_name: str, encoded: list[bytes]) -> Iterator[Message]:
    head = string(wire.NFTA_SET_ELEM_LIST_SET, set_name)
    first, size = 0, 0
    for position, element in enumerate(encoded):
        if size + len(element) > ELEMENTS_BYTES_MAX:
            yield kind, flags, head + _list(encoded[first:position]), first
            first, size = position, 0
        size += len(element)
    if encoded:
        yield kind, flags, head + _list(encoded[first:]), first


def _list(encoded: list[bytes]) -> bytes:
    return attribute(wire.NFTA_SET_ELEM_LIST_ELEMENTS, b"".join(encoded))


def _rule(rule: Rule) -> bytes:
    body = string(wire.NFTA_RULE_CHAIN, rule.chain)
    body += attribute(wire.NFTA_RULE_EXPRESSIONS, bytecode.encode(rule.expressions))
    return body + comment(wire.NFTA_RULE_USERDATA, rule.comment) if rule.comment else body


def _element(element: Element) -> bytes:
    key, value, text = element.key, element.value, element.comment
    plain = b"" if value is None else value
    if type(plain) is bytes and element.timeout is None and element.end is None and element.limit is None:
        # Nearly all of them, and therefore without a step that could be taken once for all of their length.
        explained = comment(wire.NFTA_SET_ELEM_USERDATA, text) if text else b""
        before, between, after = _frame(len(key), None if value is None else len(plain), len(explained))
        return b"".join((before, key, between, plain, after, explained))
    body = _data_header(wire.NFTA_SET_ELEM_KEY, len(key)) + key + PADDING[len(key) & 3]
    if element.end is not None:
        body += attribute(wire.NFTA_SET_ELEM_KEY_END, attribute(wire.NFTA_DATA_VALUE, element.end))
    if isinstance(value, bytes):
        body += _data_header(wire.NFTA_SET_ELEM_DATA, len(value)) + value + PADDING[len(value) & 3]
    elif value is not None:
        body += bytecode.verdict_attribute(wire.NFTA_SET_ELEM_DATA, value)
    if element.timeout is not None:
        body += u64(wire.NFTA_SET_ELEM_TIMEOUT, element.timeout)
    if element.comment:
        body += comment(wire.NFTA_SET_ELEM_USERDATA, element.comment)
    if element.limit is not None:
        body += attribute(wire.NFTA_SET_ELEM_EXPR, _limit(element.limit))
    return ATTRIBUTE.pack(len(body) + 4, wire.NFTA_LIST_ELEM) + body


def _limit(limit: Limit) -> bytes:
    """`limit rate over RATE bytes/second burst BURST bytes`"""
    attributes = u64(wire.NFTA_LIMIT_RATE, limit.rate) + u64(wire.NFTA_LIMIT_UNIT, 1)
    attributes += u32(wire.NFTA_LIMIT_BURST, limit.burst) + u32(wire.NFTA_LIMIT_TYPE, wire.NFT_LIMIT_PKT_BYTES)
    attributes += u32(wire.NFTA_LIMIT_FLAGS, wire.NFT_LIMIT_F_INV)
    return string(wire.NFTA_EXPR_NAME, "limit") + attribute(wire.NFTA_EXPR_DATA, attributes)


def key_of(set_name: str, key: bytes) -> bytes:
    """Which element of which set: the attributes of a question about it."""
    return string(wire.NFTA_SET_ELEM_LIST_SET, set_name) + _list([_element_key(Element(key))])


def _element_key(element: Element) -> bytes:
    # The key alone: what the element maps to may be gone in this very transaction.
    body = attribute(wire.NFTA_SET_ELEM_KEY, attribute(wire.NFTA_DATA_VALUE, element.key))
    if element.end is not None:
        body += attribute(wire.NFTA_SET_ELEM_KEY_END, attribute(wire.NFTA_DATA_VALUE, element.end))
    return attribute(wire.NFTA_LIST_ELEM, body)


@cache
def _frame(key_length: int, value_length: int | None, comment_length: int) -> tuple[bytes, bytes, bytes]:
    """What stands before the key of an element, between key and value, if it has one, and between value and comment."""
    key, between, after = _data_header(wire.NFTA_SET_ELEM_KEY, key_length), PADDING[key_length & 3], b""
    if value_length is not None:
        between += _data_header(wire.NFTA_SET_ELEM_DATA, value_length)
        after = PADDING[value_length & 3]
    length = 4 + len(key) + key_length + len(between) + (value_length or 0) + len(after) + comment_length
    return ATTRIBUTE.pack(length, wire.NFTA_LIST_ELEM) + key, between, after


@cache
def _data_header(kind: int, length: int) -> bytes:
    """Both headers of an attribute that holds a value of this length: its own and NFTA_DATA_VALUE's."""
    padded = length + len(PADDING[length & 3])
    return ATTRIBUTE.pack(8 + padded, kind) + ATTRIBUTE.pack(4 + length, wire.NFTA_DATA_VALUE)


_ENCODE: dict[type[Operation], Callable[[Any], Iterable[Message]]] = {
    AddChain: _add_chain,
    DeleteChain: _delete_chain,
    FlushChain: _flush_chain,
    AddRule: _add_rule,
    ReplaceRule: _replace_rule,
    DeleteRule: _delete_rule,
    AddElements: _add_elements,
    DeleteElements: _delete_elements,
}
