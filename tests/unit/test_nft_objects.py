"""Values, names and comments: what may reach the kernel."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.nft import expressions, objects, values
from dataplane.nft.expressions import InvalidNumgen
from dataplane.nft.objects import (
    COMMENT_BYTES_MAX,
    NAME_LENGTH_MAX,
    AddChain,
    AddElements,
    AddRule,
    Chain,
    Element,
    Family,
    InvalidComment,
    InvalidName,
    ReplaceRule,
    Rule,
    Table,
)
from dataplane.nft.values import InvalidVerdict, Verdict


def test_a_mark_is_in_host_order_and_a_port_in_network_order():
    assert values.mark_number(values.mark(0x01020304)) == 0x01020304
    assert values.port(80) == b"\0P"


def test_a_concatenation_pads_each_field_to_a_register():
    key = values.concat(values.ipv4(IPv4Address("10.96.0.1")), values.proto(6), values.port(443))

    assert key == b"\x0a\x60\0\1" + b"\6\0\0\0" + b"\1\xbb\0\0"


@pytest.mark.parametrize(("kind", "chain"), [("goto", ""), ("jump", ""), ("accept", "svc"), ("drop", "svc")])
def test_only_jump_and_goto_have_a_chain(kind, chain):
    with pytest.raises(InvalidVerdict) as caught:
        Verdict(kind, chain)
    assert repr(kind) in str(caught.value)


@pytest.mark.parametrize(("modulus", "offset"), [(0, 1), (-1, 1), (1, -1), (2, 0xFFFFFFFF), (1 << 32, 1)])
def test_numgen_numbers_must_fit_a_mark(modulus, offset):
    with pytest.raises(InvalidNumgen) as caught:
        expressions.ct_mark_set_numgen(modulus, offset)
    assert str(modulus) in str(caught.value)


def test_numgen_may_reach_the_last_mark():
    assert expressions.ct_mark_set_numgen(2, 0xFFFFFFFE)


@pytest.mark.parametrize(
    "name", ["", "9lives", "-x", "a b", "a{", "a;b", 'a"', "ä", "a\n", "x" * (NAME_LENGTH_MAX + 1), "a#b", "a@b"]
)
def test_a_name_nft_could_not_read_back_is_refused(name):
    with pytest.raises(InvalidName) as caught:
        AddChain(Chain(name))
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["svc-ABCD2345-default/web/http", "_x", ".x", "x" * NAME_LENGTH_MAX])
def test_a_readable_name_is_accepted(name):
    assert AddChain(Chain(name)).chain.name == name


def test_a_table_has_a_name_too():
    with pytest.raises(InvalidName):
        Table(Family.IP, "pod wire")
    assert str(Table(Family.IP6, "podwire-proxy")) == "ip6 podwire-proxy"


@pytest.mark.parametrize(
    "comment", ['say "x"', "two\nlines", "\0", "\x7f", "ü" * (COMMENT_BYTES_MAX // 2) + "x", "\ud800"]
)
@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda comment: AddChain(Chain("svc", comment)), id="chain"),
        pytest.param(lambda comment: AddRule(Rule("svc", (), comment)), id="rule"),
        pytest.param(lambda comment: ReplaceRule(Rule("svc", (), comment), 1), id="replaced rule"),
        pytest.param(
            lambda comment: AddElements("ring", (Element(b"k"), Element(b"l", comment=comment))), id="element"
        ),
    ],
)
def test_a_comment_nft_could_not_read_back_is_refused(operation, comment):
    with pytest.raises(InvalidComment) as caught:
        operation(comment)
    assert repr(comment) in str(caught.value)


@given(st.text())
def test_any_text_can_be_fitted_into_a_comment(text):
    objects.check_comment(objects.fit_comment(text))


@given(st.text(alphabet=st.characters(categories=["L", "N"]), max_size=COMMENT_BYTES_MAX // 4))
def test_a_text_that_fits_is_its_own_comment(text):
    assert objects.fit_comment(text) == text


def test_a_cut_comment_shows_that_it_was_cut():
    assert objects.fit_comment("x" * 200) == "x" * (COMMENT_BYTES_MAX - 3) + "…"
