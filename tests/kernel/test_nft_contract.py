"""What every `Nft` promises, asked of the fake and of the kernel: the fake is only worth something while both agree."""

import errno
from collections.abc import Iterator

import pytest

from dataplane.errors import NotFound
from dataplane.nft import expressions, values
from dataplane.nft.expressions import Counter, Lookup
from dataplane.nft.fake import FakeNft, SetShape
from dataplane.nft.interface import GenerationChanged, Nft, TableMissing, TransactionFailed
from dataplane.nft.linux import LinuxNft
from dataplane.nft.objects import (
    AddChain,
    AddElements,
    AddRule,
    Chain,
    DeleteChain,
    DeleteElements,
    DeleteRule,
    Element,
    Family,
    FlushChain,
    Limit,
    ReplaceRule,
    Rule,
    Table,
)
from dataplane.nft.values import Verdict, mark
from tests import namespaces

TABLE = Table(Family.IP, "podwire-test")
SKELETON = """table ip podwire-test {
    map ring { type mark : mark; }
    map endpoints { type mark : ipv4_addr . inet_service; counter; }
    map affinity { type ipv4_addr . mark : mark; flags timeout; }
    map services { type ipv4_addr . inet_proto . inet_service : verdict; }
    set members { type ipv4_addr; }
    set limited { type ipv4_addr; limit rate over 1 mbytes/second; }
    chain to-endpoint { }
    chain pre { type nat hook prerouting priority dstnat; }
}"""
SETS = (
    SetShape("ring", 4, 4),
    SetShape("endpoints", 4, 8),
    SetShape("affinity", 8, 4, timeouts=True),
    SetShape("services", 12, verdicts=True),
    SetShape("members", 4),
    SetShape("limited", 4),
)
SERVICE = values.concat(b"\x0a\x60\0\1", values.proto(6), values.port(443))
OTHER_SERVICE = values.concat(b"\x0a\x60\0\2", values.proto(6), values.port(443))
TO_SVC = Element(SERVICE, Verdict("goto", "svc"), "default/kubernetes")
ROUND_ROBIN = expressions.ct_mark_set_numgen(3, 40)
SVC = AddChain(Chain("svc"))


@pytest.fixture(params=["fake", "linux"])
def empty(request) -> Iterator[Nft]:
    if request.param == "fake":
        yield FakeNft(TABLE, sets=SETS, chains=("to-endpoint",), base_chains=("pre",))
        return
    with (
        namespaces.namespace("nft") as inside,
        open(inside.path) as file,
        LinuxNft(TABLE, netns_fd=file.fileno()) as nft,
    ):
        yield nft


@pytest.fixture
def nft(empty: Nft) -> Nft:
    empty.load(SKELETON)
    return empty


def refusals(nft: Nft, *operations) -> list[tuple[int, int, int | None]]:
    """What the commit is refused for; it must have changed nothing."""
    before = snapshot(nft)
    with pytest.raises(TransactionFailed) as caught:
        nft.commit(operations)

    assert before == snapshot(nft)
    assert caught.value.code == caught.value.failures[0].code
    return [(failure.index, failure.code, failure.element) for failure in caught.value.failures]


def snapshot(nft: Nft) -> object:
    elements = {shape.name: frozenset(map(repr, nft.elements(shape.name))) for shape in SETS}
    return frozenset(map(repr, nft.chains())), dict(nft.all_rules()), elements, nft.generation()


def expressions_of(nft: Nft, chain: str) -> list[tuple]:
    return [rule.expressions for _, rule in nft.rules(chain)]


def test_a_table_exists_from_load_to_delete(empty):
    assert not empty.table_exists()
    empty.load(SKELETON)
    assert empty.table_exists()
    empty.delete_table()
    assert not empty.table_exists()


def test_deleting_an_absent_table_is_success(empty):
    empty.delete_table()

    assert not empty.table_exists()


def test_loading_again_keeps_what_is_there(nft):
    nft.commit([AddElements("ring", (Element(mark(1), mark(2)),))])

    nft.load(SKELETON)

    assert (Element(mark(1), mark(2)),) == nft.elements("ring")


def test_a_commit_to_a_missing_table_says_so(empty):
    with pytest.raises(TableMissing):
        empty.commit([SVC])


def test_the_table_deleted_by_somebody_else_is_noticed_at_commit(nft):
    nft.delete_table()

    with pytest.raises(TableMissing) as caught:
        nft.commit([SVC, AddElements("ring", (Element(mark(1), mark(2)),))])
    assert "podwire-test" in str(caught.value)


def test_a_missing_table_has_nothing_to_read(empty):
    assert (empty.chains(), empty.rules("svc"), dict(empty.all_rules())) == ((), (), {})


@pytest.mark.parametrize("read", [lambda nft: nft.elements("ring"), lambda nft: nft.list_ruleset()])
def test_the_elements_and_the_listing_of_a_missing_table_are_not_found(empty, read):
    with pytest.raises(NotFound):
        read(empty)


def test_the_elements_of_a_missing_set_are_not_found(nft):
    with pytest.raises(NotFound) as caught:
        nft.elements("absent")
    assert "absent" in str(caught.value)


def test_a_missing_chain_has_no_rules(nft):
    assert nft.rules("absent") == ()


def test_an_empty_commit_changes_nothing(nft):
    before = snapshot(nft)

    nft.commit([])
    nft.commit([AddElements("ring", ())])

    assert before == snapshot(nft)


def test_a_chain_is_read_back_with_its_comment(nft):
    nft.commit([AddChain(Chain("svc-ABC-default/web/http", "default/web port http"))])

    assert Chain("svc-ABC-default/web/http", "default/web port http") in nft.chains()


def test_base_chains_are_listed_too(nft):
    assert {"to-endpoint", "pre"} == {chain.name for chain in nft.chains()}


def test_adding_a_chain_again_keeps_it(nft):
    nft.commit([AddChain(Chain("svc", "first"))])

    nft.commit([AddChain(Chain("svc", "second"))])

    assert Chain("svc", "first") in nft.chains()


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(expressions.ct_mark_set_numgen(1, 0), id="numgen smallest"),
        pytest.param(expressions.ct_mark_set_numgen(0xFFFF, 0xFFFF0000), id="numgen largest"),
        pytest.param(expressions.ct_mark_set(0xDEADBEEF), id="ct mark set"),
        pytest.param(expressions.ct_mark_set_map("ring"), id="ct mark map"),
        pytest.param(expressions.meta_mark_set(0x77), id="meta mark set"),
        pytest.param(expressions.meta_mark_set_jump(0x77, "to-endpoint"), id="meta mark jump"),
        pytest.param(expressions.meta_mark_set_goto(0x77, "to-endpoint"), id="meta mark goto"),
        pytest.param(expressions.goto("to-endpoint"), id="goto"),
        pytest.param(expressions.jump("to-endpoint"), id="jump"),
        pytest.param(expressions.verdict("accept"), id="accept"),
        pytest.param(expressions.verdict("drop"), id="drop"),
        pytest.param(expressions.verdict("return"), id="return"),
        pytest.param(expressions.verdict("continue"), id="continue"),
        pytest.param((*expressions.counter(), *expressions.goto("to-endpoint")), id="counter goto"),
    ],
)
def test_a_rule_is_read_back_as_it_was_written(nft, statement):
    nft.commit([SVC, AddRule(Rule("svc", statement, "why"))])

    assert [Rule("svc", statement, "why")] == [rule for _, rule in nft.rules("svc")]


def test_rules_keep_their_order(nft):
    statements = [expressions.ct_mark_set(number) for number in range(5)]

    nft.commit([SVC, *(AddRule(Rule("svc", statement)) for statement in statements)])

    assert statements == expressions_of(nft, "svc")


def test_all_rules_are_those_of_each_chain(nft):
    nft.commit(
        [SVC, AddChain(Chain("bare")), AddRule(Rule("svc", ROUND_ROBIN)), AddRule(Rule("to-endpoint", (Counter(),)))]
    )

    assert {"svc": nft.rules("svc"), "to-endpoint": nft.rules("to-endpoint")} == dict(nft.all_rules())


def test_a_replaced_rule_keeps_its_place(nft):
    nft.commit([SVC, AddRule(Rule("svc", ROUND_ROBIN)), AddRule(Rule("svc", expressions.goto("to-endpoint")))])
    first, second = nft.rules("svc")

    nft.commit([ReplaceRule(Rule("svc", expressions.ct_mark_set_numgen(4, 50)), first.handle)])

    assert [expressions.ct_mark_set_numgen(4, 50), second.rule.expressions] == expressions_of(nft, "svc")
    assert second.handle == nft.rules("svc")[1].handle


def test_a_deleted_rule_is_gone_and_the_others_stay(nft):
    nft.commit([SVC, AddRule(Rule("svc", ROUND_ROBIN)), AddRule(Rule("svc", expressions.goto("to-endpoint")))])
    first, second = nft.rules("svc")

    nft.commit([DeleteRule("svc", first.handle)])

    assert (second,) == nft.rules("svc")


def test_flushing_leaves_the_chain_empty(nft):
    nft.commit([SVC, AddRule(Rule("svc", ROUND_ROBIN)), AddRule(Rule("svc", expressions.goto("to-endpoint")))])

    nft.commit([FlushChain("svc")])

    assert nft.rules("svc") == ()
    assert Chain("svc") in nft.chains()


def test_a_chain_is_deleted_with_its_rules(nft):
    nft.commit([SVC, AddChain(Chain("next")), AddRule(Rule("svc", expressions.goto("next")))])

    nft.commit([DeleteChain("svc"), DeleteChain("next")])

    assert {"to-endpoint", "pre"} == {chain.name for chain in nft.chains()}


def test_a_chain_that_was_deleted_may_be_made_again_in_the_same_transaction(nft):
    nft.commit([AddChain(Chain("svc", "old")), AddRule(Rule("svc", ROUND_ROBIN))])

    nft.commit([DeleteChain("svc"), AddChain(Chain("svc", "new"))])

    assert Chain("svc", "new") in nft.chains()
    assert nft.rules("svc") == ()


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(AddRule(Rule("absent", ROUND_ROBIN)), id="rule in a missing chain"),
        pytest.param(AddRule(Rule("to-endpoint", expressions.goto("absent"))), id="goto a missing chain"),
        pytest.param(AddRule(Rule("to-endpoint", expressions.ct_mark_set_map("absent"))), id="lookup in a missing map"),
        pytest.param(ReplaceRule(Rule("absent", ROUND_ROBIN), 1), id="replace in a missing chain"),
        pytest.param(ReplaceRule(Rule("to-endpoint", ROUND_ROBIN), 4711), id="replace a missing rule"),
        pytest.param(DeleteRule("absent", 1), id="delete a rule of a missing chain"),
        pytest.param(DeleteRule("to-endpoint", 4711), id="delete a missing rule"),
        pytest.param(DeleteChain("absent"), id="delete a missing chain"),
        pytest.param(FlushChain("absent"), id="flush a missing chain"),
        pytest.param(AddElements("absent", (Element(mark(1), mark(2)),)), id="element in a missing map"),
        pytest.param(DeleteElements("absent", (Element(mark(1)),)), id="delete from a missing map"),
    ],
)
def test_what_is_missing_is_enoent(nft, operation):
    assert refusals(nft, SVC, operation) == [(1, errno.ENOENT, None)]


def test_a_rule_may_not_lead_to_a_base_chain(nft):
    assert refusals(nft, AddRule(Rule("to-endpoint", expressions.goto("pre")))) == [(0, errno.EOPNOTSUPP, None)]


@pytest.mark.parametrize(
    "user",
    [
        pytest.param(AddRule(Rule("to-endpoint", expressions.jump("svc"))), id="rule"),
        pytest.param(AddElements("services", (TO_SVC,)), id="element"),
    ],
)
def test_a_chain_in_use_is_busy(nft, user):
    nft.commit([SVC, user])

    assert refusals(nft, DeleteChain("svc")) == [(0, errno.EBUSY, None)]


def test_a_chain_is_free_once_its_element_is_deleted_in_the_same_transaction(nft):
    nft.commit([SVC, AddElements("services", (TO_SVC,))])

    nft.commit([DeleteElements("services", (TO_SVC,)), DeleteChain("svc")])

    assert nft.elements("services") == ()
    assert Chain("svc") not in nft.chains()


def test_operations_apply_in_their_order(nft):
    nft.commit([SVC, AddElements("services", (TO_SVC,))])

    assert refusals(nft, DeleteChain("svc"), DeleteElements("services", (TO_SVC,))) == [(0, errno.EBUSY, None)]


def test_replacing_a_rule_releases_the_chain_it_led_to(nft):
    nft.commit([SVC, AddRule(Rule("to-endpoint", expressions.jump("svc")))])
    (installed,) = nft.rules("to-endpoint")

    nft.commit([ReplaceRule(Rule("to-endpoint", (Counter(),)), installed.handle), DeleteChain("svc")])

    assert Chain("svc") not in nft.chains()


def test_elements_are_read_back_as_they_were_written(nft):
    endpoint = Element(mark(7), values.concat(b"\x0a\xf4\1\5", values.port(8080)), "web-0")

    nft.commit([SVC, AddElements("services", (TO_SVC,)), AddElements("endpoints", (endpoint,))])

    assert ((TO_SVC,), (endpoint,)) == (nft.elements("services"), nft.elements("endpoints"))


def test_an_element_of_a_set_has_no_value(nft):
    nft.commit([AddElements("members", (Element(b"\x0a\0\0\1"),))])

    assert (Element(b"\x0a\0\0\1"),) == nft.elements("members")


def test_an_element_keeps_its_timeout(nft):
    element = Element(values.concat(b"\x0a\0\0\1", mark(3)), mark(7), timeout=3_600_000)

    nft.commit([AddElements("affinity", (element,))])

    assert (element,) == nft.elements("affinity")


def test_an_element_that_exists_with_the_same_value_stays(nft):
    nft.commit([AddElements("ring", (Element(mark(1), mark(2), "first"),))])

    nft.commit([AddElements("ring", (Element(mark(1), mark(2), "second"),))])

    assert (Element(mark(1), mark(2), "first"),) == nft.elements("ring")


def test_an_element_that_exists_with_another_value_is_eexist(nft):
    nft.commit([AddElements("ring", (Element(mark(2), mark(2)),))])

    clash = AddElements("ring", (Element(mark(1), mark(1)), Element(mark(2), mark(3)), Element(mark(4), mark(4))))

    assert refusals(nft, clash) == [(0, errno.EEXIST, 1)]


def test_an_element_that_exists_with_another_verdict_is_eexist(nft):
    nft.commit([SVC, AddElements("services", (TO_SVC,))])

    clash = AddElements("services", (Element(SERVICE, Verdict("goto", "to-endpoint")),))

    assert refusals(nft, clash) == [(0, errno.EEXIST, 0)]


def test_an_element_takes_another_value_when_deleted_and_added_at_once(nft):
    nft.commit([AddElements("ring", (Element(mark(1), mark(2)),))])

    nft.commit([DeleteElements("ring", (Element(mark(1)),)), AddElements("ring", (Element(mark(1), mark(3)),))])

    assert (Element(mark(1), mark(3)),) == nft.elements("ring")


def test_a_missing_element_is_enoent_with_its_position(nft):
    nft.commit([AddElements("ring", (Element(mark(1), mark(2)),))])

    assert refusals(nft, DeleteElements("ring", (Element(mark(1)), Element(mark(9))))) == [(0, errno.ENOENT, 1)]


def test_elements_of_a_counting_set_start_from_zero(nft):
    nft.commit([AddElements("endpoints", (Element(mark(1), values.concat(b"\x0a\x80\0\1", values.port(8080))),))])

    assert nft.counters("endpoints") == {mark(1): (0, 0)}


def test_the_counters_of_a_missing_set_are_not_found(nft):
    with pytest.raises(NotFound):
        nft.counters("missing")


def test_what_is_left_of_an_elements_timeout_is_told(nft):
    element = Element(values.concat(b"\x0a\0\0\1", mark(3)), mark(7), timeout=3_600_000)
    nft.commit([AddElements("affinity", (element,))])
    ((found, left),) = nft.expiring("affinity")

    assert found == element
    assert 3_500_000 < left <= 3_600_000


def test_the_timeouts_of_a_missing_set_are_not_found(nft):
    with pytest.raises(NotFound):
        nft.expiring("missing")


def test_deleting_an_element_looks_at_its_key_only(nft):
    nft.commit([AddElements("ring", (Element(mark(1), mark(2)),))])

    nft.commit([DeleteElements("ring", (Element(mark(1), mark(99), "whatever"),))])

    assert nft.elements("ring") == ()


@pytest.mark.parametrize(
    ("set_name", "element", "code"),
    [
        pytest.param("ring", Element(b"\1\2", mark(1)), errno.EINVAL, id="short key"),
        pytest.param("ring", Element(mark(2) * 2, mark(1)), errno.EINVAL, id="long key"),
        pytest.param("ring", Element(mark(2), b"\1"), errno.EINVAL, id="short value"),
        pytest.param("ring", Element(mark(2), mark(1) * 2), errno.EINVAL, id="long value"),
        pytest.param("ring", Element(mark(2)), errno.EINVAL, id="no value in a map"),
        pytest.param("members", Element(mark(2), mark(1)), errno.EINVAL, id="value in a set"),
        pytest.param("ring", Element(mark(2), Verdict("accept")), errno.EINVAL, id="verdict in a map of values"),
        pytest.param("services", Element(OTHER_SERVICE, mark(1)), errno.EINVAL, id="value in a map of verdicts"),
        pytest.param("ring", Element(mark(2), mark(1), timeout=1000), errno.EINVAL, id="timeout in a map without"),
        pytest.param("services", Element(OTHER_SERVICE, Verdict("goto", "absent")), errno.ENOENT, id="missing chain"),
        pytest.param("services", Element(OTHER_SERVICE, Verdict("goto", "pre")), errno.EOPNOTSUPP, id="base chain"),
    ],
)
def test_an_element_the_set_cannot_hold_is_refused_with_its_position(nft, set_name, element, code):
    good = {"ring": Element(mark(1), mark(1)), "services": TO_SVC, "members": Element(mark(1))}[set_name]

    assert [(1, code, 1)] == refusals(nft, SVC, AddElements(set_name, (good, element)))


@pytest.mark.parametrize("key", [b"\1\2", mark(1) * 2])
def test_deleting_by_a_key_of_another_size_is_refused(nft, key):
    assert refusals(nft, DeleteElements("ring", (Element(key),))) == [(0, errno.EINVAL, 0)]


def test_every_refused_operation_is_reported(nft):
    operations = [
        SVC,
        DeleteChain("absent"),
        AddRule(Rule("svc", ROUND_ROBIN)),
        AddElements("ring", (Element(mark(1), b"short"),)),
        AddRule(Rule("svc", (Lookup("absent"),))),
    ]

    assert refusals(nft, *operations) == [(1, errno.ENOENT, None), (3, errno.EINVAL, 0), (4, errno.ENOENT, None)]


def test_what_depends_on_a_refused_operation_is_refused_too(nft):
    operations = [AddRule(Rule("svc", ROUND_ROBIN)), SVC, AddRule(Rule("svc", ROUND_ROBIN))]

    assert refusals(nft, *operations) == [(0, errno.ENOENT, None)]


def test_every_transaction_changes_the_generation(nft):
    before = nft.generation()

    nft.commit([SVC])

    assert before != nft.generation()


def test_a_commit_for_the_current_generation_goes_in(nft):
    nft.commit([SVC], generation=nft.generation())

    assert Chain("svc") in nft.chains()


def test_a_commit_for_an_older_generation_changes_nothing(nft):
    generation = nft.generation()
    nft.commit([SVC])

    with pytest.raises(GenerationChanged):
        nft.commit([AddChain(Chain("late"))], generation=generation)
    assert Chain("late") not in nft.chains()


def test_the_listing_names_what_is_in_the_table(nft):
    nft.commit([SVC, AddElements("services", (TO_SVC,))])

    listing = nft.list_ruleset()

    assert "table ip podwire-test" in listing
    assert "chain svc" in listing
    assert "default/kubernetes" in listing


def test_one_element_is_found_by_its_key(nft):
    nft.commit([AddElements("endpoints", (Element(mark(1), b"\x0a\0\0\1\x1f\x90\0\0", "a"),)), SVC])
    nft.commit([AddElements("services", (TO_SVC,))])

    assert nft.element("endpoints", mark(1)) == Element(mark(1), b"\x0a\0\0\1\x1f\x90\0\0", "a")
    assert nft.element("services", SERVICE) == TO_SVC


@pytest.mark.parametrize("set_name", ["ring", "nobody-has-this"])
def test_an_element_that_is_not_there_is_none(nft, set_name):
    assert nft.element(set_name, mark(1)) is None


def test_an_element_of_a_table_that_is_not_there_is_none(empty):
    assert empty.element("ring", mark(1)) is None


def test_each_element_of_a_set_has_a_limit_of_its_own(nft):
    slow, fast = Element(mark(1), limit=Limit(1000, 4000)), Element(mark(2), limit=Limit(1 << 33, 1), comment="fast")
    nft.commit([AddElements("limited", (slow, fast))])

    assert {slow, fast} == set(nft.elements("limited"))
    assert slow == nft.element("limited", mark(1))
