"""Operations and expressions as bytes and back, and bytes of any kind as messages."""

import collections
import errno
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.nft import bytecode, decode, encode, expressions, objects, wire
from dataplane.nft.expressions import Counter, LoadValue, Lookup, NumgenIncrement, Other, SetVerdict
from dataplane.nft.objects import (
    AddChain,
    AddElements,
    AddRule,
    Chain,
    DeleteChain,
    DeleteElements,
    Element,
    Family,
    InstalledRule,
    Rule,
    Table,
)
from dataplane.nft.values import Verdict, mark
from dataplane.nft.wire import MalformedMessage

TABLE = Table(Family.IP, "podwire-test")
SVC = AddChain(Chain("svc"))
# As nft 1.0.6 compiled them and Linux 6.18 dumped them.
DUMPED = {
    "numgen": (
        (
            "340001000b0001006e756d67656e0000240002000800010000000001080002000000000308000300000000000800040000000028"
            "2000010007000100637400001400020008000400000000010800020000000003"
        ),
        expressions.ct_mark_set_numgen(3, 40),
    ),
    "constant and counter": (
        (
            "2c0001000e000100696d6d6564696174650000001800020008000100000000010c000200080001003412000020000100070001006374"
            "000014000200080004000000000108000200000000032c0001000c000100636f756e746572001c0002000c0001000000000000000000"
            "0c0002000000000000000000400001000e000100696d6d6564696174650000002c000200080001000000000020000200"
            "1c00020008000100fffffffc10000200746f2d656e64706f696e7400"
        ),
        (*expressions.ct_mark_set(0x1234), *expressions.counter(), *expressions.goto("to-endpoint")),
    ),
    "map": (
        (
            "2000010007000100637400001400020008000100000000010800020000000003380001000b0001006c6f6f6b757000002800020009"
            "00010072696e67000000000800020000000001080003000000000108000500000000002000010007000100637400001400020008"
            "00040000000001080002000000000340"
            "0001000e000100696d6d6564696174650000002c0002000800010000000000200002001c00020008000100fffffffc10000200"
            "746f2d656e64706f696e7400"
        ),
        (*expressions.ct_mark_set_map("ring"), *expressions.goto("to-endpoint")),
    ),
    "verdict": (
        "300001000e000100696d6d6564696174650000001c0002000800010000000000100002000c00020008000100fffffffb",
        expressions.verdict("return"),
    ),
}

names = st.from_regex(r"[a-z][a-z0-9/_.-]{0,40}", fullmatch=True)
numbers = st.integers(0, 0x7FFFFFFF)
verdicts = st.builds(Verdict, st.sampled_from(["goto", "jump"]), names) | st.builds(
    Verdict, st.sampled_from(["accept", "drop", "return", "continue"])
)
statements = st.lists(
    st.one_of(
        st.builds(NumgenIncrement, st.integers(1, 0x7FFFFFFF), numbers),
        st.builds(LoadValue, st.binary(min_size=1, max_size=64)),
        st.builds(Lookup, names),
        st.builds(SetVerdict, verdicts),
        st.just(Counter()),
        st.sampled_from([*expressions.ct_mark_set_map("ring"), *expressions.meta_mark_set(1)]),
        st.builds(Other, st.sampled_from(["nat", "payload", "cmp"]), st.binary(max_size=80)),
    )
).map(tuple)
comments = st.text(max_size=30).map(objects.fit_comment)
elements = st.builds(
    Element,
    st.binary(min_size=1, max_size=64),
    st.none() | st.binary(min_size=1, max_size=64) | verdicts,
    comments,
    st.none() | st.integers(0, 2**63),
)


def messages_of(*operations) -> list[decode.Message]:
    """The messages of a batch without the two that enclose it."""
    return list(decode.messages(encode.batch(TABLE, operations).payload))[1:-1]


@pytest.mark.parametrize("case", DUMPED)
def test_a_statement_is_encoded_as_the_kernel_dumps_it(case):
    dumped, statement = DUMPED[case]

    assert bytecode.encode(statement).hex() == dumped


@pytest.mark.parametrize("case", DUMPED)
def test_a_dumped_statement_is_recognised(case):
    dumped, statement = DUMPED[case]

    assert bytecode.decode(bytes.fromhex(dumped)) == statement


@given(statements)
def test_statements_are_read_back(statement):
    assert bytecode.decode(bytecode.encode(statement)) == statement


def test_what_a_counter_counted_is_no_difference():
    counted = wire.u64(1, 1500) + wire.u64(2, 3)

    assert bytecode.decode(bytecode.encode((Other("counter", counted),))) == (Counter(),)


def test_an_expression_on_another_register_is_kept_as_it_is():
    other = Other("ct", wire.u32(1, 2) + wire.u32(2, 3))

    assert bytecode.decode(bytecode.encode((other,))) == (other,)


@given(names, statements, comments)
def test_rules_are_read_back(chain, statement, comment):
    encoded = encode._rule(Rule(chain, statement, comment)) + wire.u64(wire.NFTA_RULE_HANDLE, 7)

    assert decode.rule(wire.fields(encoded)) == InstalledRule(7, Rule(chain, statement, comment))


@given(st.lists(elements, min_size=1, max_size=50))
def test_elements_are_read_back(some):
    (message,) = messages_of(AddElements("ring", tuple(some)))

    assert collections.Counter(decode.elements([decode.fields(message)])) == collections.Counter(some)


def test_elements_of_one_operation_share_messages_that_an_attribute_can_hold():
    many = tuple(Element(mark(number), mark(number)) for number in range(10_000))

    messages = messages_of(AddElements("ring", many))

    assert len(messages) == 5
    assert max(len(message.payload) for message in messages) < 1 << 16
    assert set(decode.elements(map(decode.fields, messages))) == set(many)


def test_no_elements_are_no_message():
    assert messages_of(AddElements("ring", ()), DeleteElements("ring", ())) == []


def test_deleted_elements_are_named_by_their_keys_alone():
    (message,) = messages_of(DeleteElements("services", (Element(mark(1), Verdict("goto", "svc"), "gone"),)))

    assert list(decode.elements([decode.fields(message)])) == [Element(mark(1))]


def test_a_batch_is_enclosed_and_numbered():
    batch = encode.batch(TABLE, [SVC, DeleteChain("old")])

    kinds = [(message.kind, message.sequence) for message in decode.messages(batch.payload)]

    assert kinds == [
        (wire.NFNL_MSG_BATCH_BEGIN, 0),
        (wire.NFT_MSG_NEWCHAIN, 1),
        (wire.NFT_MSG_DELCHAIN, 2),
        (wire.NFNL_MSG_BATCH_END, 0),
    ]


def test_a_batch_names_the_generation_it_is_for():
    begin = next(decode.messages(encode.batch(TABLE, [], generation=77).payload))

    assert decode.fields(begin) == {wire.NFNL_BATCH_GENID: wire.U32.pack(77)}


def test_messages_know_the_operation_and_the_elements_they_carry():
    many = tuple(Element(mark(number), mark(number)) for number in range(5000))

    batch = encode.batch(TABLE, [SVC, AddElements("ring", many), AddRule(Rule("svc", ()))])

    assert [batch.origin(sequence) for sequence in range(1, 6)] == [(0, 0), (1, 0), (1, 2142), (1, 4284), (2, 0)]


def test_a_message_of_a_batch_is_found_by_its_number():
    batch = encode.batch(TABLE, [SVC, AddElements("ring", (Element(mark(1)),)), DeleteChain("old")])

    (found,) = decode.messages(batch.message(2))

    assert (found.kind, found.sequence) == (wire.NFT_MSG_NEWSETELEM, 2)


def test_an_element_is_found_by_where_it_begins():
    batch = encode.batch(TABLE, [AddElements("ring", tuple(Element(mark(n), mark(n), "x" * n) for n in range(1, 9)))])
    message = batch.message(1)

    offset = message.index(wire.attribute(wire.NFTA_DATA_VALUE, mark(5))) - 8

    assert decode.element_at(message, offset) == 4
    assert decode.element_at(message, offset + 4) is None


def test_only_messages_with_elements_have_elements():
    message = encode.batch(TABLE, [AddRule(Rule("svc", expressions.goto("pick")))]).message(1)

    assert [decode.element_at(message, offset) for offset in range(len(message))] == [None] * len(message)


def refusal(code: int, *, flags: int = 0, repeated: bytes = b"", attributes: bytes = b"") -> decode.Message:
    header = struct.pack("=IHHII", 16 + len(repeated), wire.NFT_MSG_NEWRULE, 0, 7, 0)
    return decode.Message(wire.NLMSG_ERROR, flags, 7, 0, struct.pack("=i", -code) + header + repeated + attributes)


EXPLANATION = wire.string(wire.NLMSGERR_ATTR_MSG, "Chain is busy") + wire.attribute(
    wire.NLMSGERR_ATTR_OFFS, struct.pack("=I", 36)
)


def test_a_refusal_without_explanation_is_its_error_number():
    assert decode.answer(refusal(errno.ENOENT)) == decode.Answer(7, errno.ENOENT)


@pytest.mark.parametrize(("flags", "repeated"), [(wire.NLM_F_CAPPED, b""), (0, b"the message, repeated")])
def test_a_refusal_is_read_with_its_explanation(flags, repeated):
    padded = repeated + bytes(-len(repeated) % 4)
    message = refusal(errno.EBUSY, flags=flags | wire.NLM_F_ACK_TLVS, repeated=padded, attributes=EXPLANATION)

    assert decode.answer(message) == decode.Answer(7, errno.EBUSY, "Chain is busy", 36)


def test_what_is_malformed_is_shown():
    with pytest.raises(MalformedMessage) as caught:
        wire.fields(b"\2\0\1\0")
    assert str(caught.value) == "read a netlink message: expected an attribute, found 02000100"


def test_a_comment_is_found_among_other_user_data():
    assert wire.read_comment(b"\7\2ab" + b"\0\5note\0") == "note"


READERS: dict[str, Callable[[bytes], object]] = {
    "messages": lambda data: [decode.answer(message) for message in decode.messages(data)],
    "attributes": wire.fields,
    "expressions": bytecode.decode,
    "value": bytecode.read_value,
    "rule": lambda data: decode.rule(wire.fields(data)),
    "chain": lambda data: decode.chain(wire.fields(data)),
    "elements": lambda data: list(decode.elements([{wire.NFTA_SET_ELEM_LIST_ELEMENTS: data}])),
    "generation": lambda data: decode.generation(wire.fields(data)),
    "comment": wire.read_comment,
    "element at": lambda data: decode.element_at(
        struct.pack("=IHH", 0, wire.NFT_MSG_NEWSETELEM, 0) + data.ljust(8), 40
    ),
}


def survives(read: Callable[[bytes], object], data: bytes) -> None:
    with suppress(MalformedMessage):
        read(data)


@pytest.mark.parametrize("reader", READERS)
@given(data=st.binary(max_size=300))
def test_no_bytes_make_a_reader_fail_in_another_way(reader, data):
    survives(READERS[reader], data)


@pytest.mark.parametrize("reader", READERS)
@given(statement=statements, some=st.lists(elements, max_size=3), hit=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_no_damaged_message_makes_a_reader_fail_in_another_way(reader, statement, some, hit, byte):
    rule = bytecode.encode(statement)
    listed = wire.fields(messages_of(AddElements("r", tuple(some)))[0].body)[3] if some else b""
    damaged = bytearray(wire.attribute(wire.NFTA_RULE_EXPRESSIONS, rule) + listed + rule)
    damaged[hit % len(damaged)] = byte

    survives(READERS[reader], bytes(damaged))
