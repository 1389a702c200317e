"""What the fake offers beyond the contract it shares with the kernel."""

import threading

import pytest

from dataplane.nft import expressions
from dataplane.nft.fake import FakeNft, SetShape
from dataplane.nft.interface import Change, TransactionFailed
from dataplane.nft.objects import AddChain, AddElements, AddRule, Chain, DeleteChain, Element, Family, Rule, Table
from dataplane.nft.values import Verdict, mark

TABLE = Table(Family.IP, "podwire-test")
SVC = AddChain(Chain("svc", "default/web"))


@pytest.fixture
def nft() -> FakeNft:
    nft = FakeNft(TABLE, sets=(SetShape("services", 4, verdicts=True), SetShape("ring", 4, 4)), chains=("pick",))
    nft.load("table ip podwire-test { }")
    return nft


def test_it_remembers_what_was_committed_and_not_what_was_refused(nft):
    nft.commit([SVC])
    with pytest.raises(TransactionFailed):
        nft.commit([DeleteChain("absent")])

    assert nft.committed == [(SVC,)]


def test_it_remembers_what_was_loaded(nft):
    assert nft.loaded == ["table ip podwire-test { }"]


def test_its_listing_shows_chains_rules_and_elements(nft):
    nft.commit(
        [
            SVC,
            AddRule(Rule("svc", expressions.ct_mark_set_numgen(3, 40), "turns")),
            AddRule(Rule("svc", expressions.goto("pick"))),
            AddElements("services", (Element(b"\1\2\3\4", Verdict("goto", "svc"), "web"),)),
            AddElements("ring", (Element(mark(0), mark(0)),)),
        ]
    )

    assert nft.list_ruleset() == (
        "table ip podwire-test {\n"
        "\tset ring {\n"
        "\t\t00000000 : 00000000\n"
        "\t}\n"
        "\tset services {\n"
        '\t\t01020304 comment "web" : goto svc\n'
        "\t}\n"
        "\tchain pick {\n"
        "\t}\n"
        '\tchain svc { comment "default/web"\n'
        '\t\tnumgen inc mod 3 offset 40 → reg 1; reg 1 → ct mark comment "turns"\n'
        "\t\tgoto pick\n"
        "\t}\n"
        "}\n"
    )


def test_its_monitor_yields_what_is_reported_until_it_is_stopped(nft):
    change = Change(
        table="podwire-test", family=2, port_id=1, process_id=2, command="nft", what=frozenset({"new rule"})
    )
    monitor = nft.monitor()
    seen: list[Change] = []
    thread = threading.Thread(target=lambda: seen.extend(monitor.changes()))
    thread.start()

    monitor.report(change)
    monitor.stop()
    thread.join(timeout=60)

    assert seen == [change]
