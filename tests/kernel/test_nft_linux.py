"""What only the kernel can show: bytes, text that loads back, sizes, other processes, and the subscription to changes.

Address plan: endpoints 10.128.0.0/9 port 8080, Services 10.96.0.0/16 tcp port 80.
"""

import errno
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dataplane.errors import DataplaneError
from dataplane.nft import bytecode, expressions, netfilter_socket, values, wire
from dataplane.nft.interface import Change, LoadFailed, TableMissing, TransactionFailed
from dataplane.nft.linux import LinuxNft
from dataplane.nft.objects import (
    COMMENT_BYTES_MAX,
    NAME_LENGTH_MAX,
    AddChain,
    AddElements,
    AddRule,
    Chain,
    DeleteChain,
    DeleteElements,
    Element,
    Family,
    Operation,
    ReplaceRule,
    Rule,
    Table,
)
from dataplane.nft.values import Verdict, mark
from tests import namespaces
from tests.waiting import PATIENCE, eventually

TABLE = Table(Family.IP, "podwire-test")
SKELETON = """table ip podwire-test {
    map endpoints { type mark : ipv4_addr . inet_service; counter; }
    map ring { type mark : mark; }
    map affinity { type ipv4_addr . mark : mark; flags dynamic,timeout; }
    map services { type ipv4_addr . inet_proto . inet_service : verdict; }
    chain to-endpoint { meta l4proto tcp dnat ip to ct mark map @endpoints; }
    chain pre { type nat hook prerouting priority dstnat; ip daddr . meta l4proto . th dport vmap @services; }
}"""
# Every statement of expressions.py, in nft's own words.
STATEMENTS = {
    "ct mark set numgen inc mod 3 offset 40": expressions.ct_mark_set_numgen(3, 40),
    "ct mark set 0x00001234": expressions.ct_mark_set(0x1234),
    "ct mark set ct mark map @ring": expressions.ct_mark_set_map("ring"),
    "meta mark set 0x00000077": expressions.meta_mark_set(0x77),
    "meta mark set 0x00000077 jump to-endpoint": expressions.meta_mark_set_jump(0x77, "to-endpoint"),
    "meta mark set 0x00000077 goto to-endpoint": expressions.meta_mark_set_goto(0x77, "to-endpoint"),
    "goto to-endpoint": expressions.goto("to-endpoint"),
    "jump to-endpoint": expressions.jump("to-endpoint"),
    "accept": expressions.verdict("accept"),
    "drop": expressions.verdict("drop"),
    "return": expressions.verdict("return"),
    "continue": expressions.verdict("continue"),
    "counter packets 0 bytes 0": expressions.counter(),
}


@pytest.fixture
def inside(make_namespace) -> namespaces.Namespace:
    return make_namespace("nft")


@contextmanager
def table_in(inside: namespaces.Namespace) -> Iterator[LinuxNft]:
    with open(inside.path) as file, LinuxNft(TABLE, netns_fd=file.fileno()) as nft:
        yield nft


@pytest.fixture
def nft(inside) -> Iterator[LinuxNft]:
    with table_in(inside) as nft:
        nft.load(SKELETON)
        yield nft


def ring(first: int, count: int) -> tuple[Element, ...]:
    return tuple(Element(mark(number), mark(number)) for number in range(first, first + count))


def service_chain(name: str) -> list[Operation]:
    return [
        AddChain(Chain(name)),
        AddRule(Rule(name, expressions.ct_mark_set_numgen(3, 40))),
        AddRule(Rule(name, expressions.goto("to-endpoint"))),
    ]


def expression_bytes(nft: LinuxNft, chain: str) -> list[bytes]:
    """NFTA_RULE_EXPRESSIONS of a chain's rules exactly as the kernel dumps them."""
    found = nft._dump(wire.NFT_MSG_GETRULE, "rules", wire.string(wire.NFTA_RULE_CHAIN, chain))
    return [fields[wire.NFTA_RULE_EXPRESSIONS] for fields in found]


@pytest.mark.parametrize("text", STATEMENTS)
def test_the_kernel_dumps_the_bytes_that_were_written(nft, text):
    nft.commit([AddChain(Chain("svc")), AddRule(Rule("svc", STATEMENTS[text]))])

    assert expression_bytes(nft, "svc") == [bytecode.encode(STATEMENTS[text])]


@pytest.mark.parametrize("text", STATEMENTS)
def test_nft_compiles_a_statement_to_the_same_bytes(nft, text):
    nft.load(f"table {TABLE} {{\n chain svc {{\n {text}\n }}\n }}")

    assert expression_bytes(nft, "svc") == [bytecode.encode(STATEMENTS[text])]


@pytest.mark.parametrize("text", STATEMENTS)
def test_nft_lists_a_statement_in_its_own_words(nft, text):
    nft.commit([AddChain(Chain("svc")), AddRule(Rule("svc", STATEMENTS[text]))])

    assert f"\t\t{text}\n" in nft.list_ruleset()


def test_rules_of_the_skeleton_are_read_without_being_understood(nft):
    (installed,) = nft.rules("to-endpoint")

    assert expression_bytes(nft, "to-endpoint") == [bytecode.encode(installed.rule.expressions)]


def full_table() -> list[Operation]:
    """One of everything with the longest names and comments."""
    name, comment = "s" * NAME_LENGTH_MAX, "ü" * (COMMENT_BYTES_MAX // 2)
    key = values.concat(b"\x0a\x60\0\1", values.proto(6), values.port(80))
    endpoint = values.concat(b"\x0a\x80\0\1", values.port(8080))
    return [
        AddChain(Chain(name, comment)),
        AddRule(Rule(name, expressions.ct_mark_set_numgen(3, 40), comment)),
        AddRule(Rule(name, expressions.meta_mark_set_jump(7, "to-endpoint"), comment)),
        AddElements("services", (Element(key, Verdict("goto", name), comment),)),
        AddElements("endpoints", (Element(mark(7), endpoint, comment),)),
        AddElements("ring", (Element(mark(40), mark(7), comment),)),
        AddElements("affinity", (Element(values.concat(b"\x0a\0\0\1", mark(3)), mark(7), comment, 60_000),)),
    ]


def test_the_listing_loads_back(nft, inside):
    nft.commit(full_table())

    inside.run("nft", "-c", "-f", "-", stdin=inside.run("nft", "list", "ruleset"))


def test_the_listing_loaded_into_an_empty_namespace_is_the_same_table(nft, make_namespace):
    nft.commit(full_table())

    with table_in(make_namespace("copy")) as copy:
        copy.load(nft.list_ruleset())

        assert without_time(copy.list_ruleset()) == without_time(nft.list_ruleset())


def without_time(listing: str) -> str:
    return re.sub(r"expires \w+", "", listing)


def test_every_comment_is_listed(nft):
    nft.commit(full_table())

    assert nft.list_ruleset().count(f'comment "{"ü" * (COMMENT_BYTES_MAX // 2)}"') == 7


def test_text_that_nft_refuses_is_reported_in_its_words(nft):
    with pytest.raises(LoadFailed) as caught:
        nft.load("add rule ip podwire-test pre goto nowhere")
    assert "nowhere" in str(caught.value)


def test_refused_text_changes_nothing(nft):
    before = nft.list_ruleset()

    with pytest.raises(LoadFailed):
        nft.load("add chain ip podwire-test a\nadd rule ip podwire-test a goto nowhere")
    assert nft.list_ruleset() == before


def test_a_hundred_thousand_elements_are_one_transaction(nft):
    before = nft.generation()

    nft.commit([AddElements("ring", ring(1, 100_000))])

    assert nft.generation() == before + 1
    assert {element.key for element in nft.elements("ring")} == {mark(number) for number in range(1, 100_001)}


def test_a_hundred_thousand_elements_are_deleted_in_one_transaction(nft):
    nft.commit([AddElements("ring", ring(1, 100_000))])

    nft.commit([DeleteElements("ring", ring(1, 100_000))])

    assert nft.elements("ring") == ()


def test_the_refused_one_of_a_hundred_thousand_elements_is_found(nft):
    nft.commit([AddElements("ring", (Element(mark(77_777), mark(1)),))])

    with pytest.raises(TransactionFailed) as caught:
        nft.commit([AddElements("ring", ring(1, 100_000))])
    assert [(f.index, f.code, f.element) for f in caught.value.failures] == [(0, errno.EEXIST, 77_776)]
    assert len(nft.elements("ring")) == 1


def test_the_refused_one_of_ten_thousand_operations_is_found(nft):
    operations = [operation for number in range(3333) for operation in service_chain(f"svc-{number}")]
    operations[5000] = AddRule(Rule("absent", expressions.verdict("drop")))

    with pytest.raises(TransactionFailed) as caught:
        nft.commit(operations)
    assert [(f.index, f.code) for f in caught.value.failures] == [(5000, errno.ENOENT)]
    assert len(nft.chains()) == 2


def test_more_refusals_than_the_socket_can_queue_still_fail_the_transaction(nft, monkeypatch):
    monkeypatch.setattr(netfilter_socket, "RECEIVE_BUFFER", 1 << 14)
    with open(f"/proc/self/fd/{nft._line.netns_fd}") as file, LinuxNft(TABLE, netns_fd=file.fileno()) as cramped:
        with pytest.raises(TransactionFailed) as caught:
            cramped.commit([AddChain(Chain("svc")), *[DeleteChain(f"absent-{number}") for number in range(1000)]])
        assert caught.value.failures[0].index == 1
        assert len(cramped.chains()) == 2


def test_the_kernels_own_explanation_is_part_of_the_error(nft):
    with pytest.raises(TransactionFailed) as caught:
        nft.commit([DeleteChain("pre"), DeleteChain("absent")])
    assert str(caught.value) == "commit to table ip podwire-test: ENOENT"


def test_reading_while_others_write_gives_one_generation(nft):
    nft.commit([AddElements("ring", ring(1, 2000))])
    stop = threading.Event()

    def churn() -> None:
        with LinuxNft(TABLE, netns_fd=nft._line.netns_fd) as other:
            while not stop.is_set():
                other.commit([DeleteElements("ring", ring(1, 1)), AddElements("ring", ring(5001, 1))])
                other.commit([DeleteElements("ring", ring(5001, 1)), AddElements("ring", ring(1, 1))])

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        counts = set()
        for _ in range(20):
            try:
                counts.add(len(nft.elements("ring")))
            except DataplaneError as error:
                counts.add(error.code)
    finally:
        stop.set()
        thread.join()
    assert counts <= {2000, errno.EINTR}


WRITER = """
import sys
from dataplane.nft.linux import LinuxNft
from dataplane.nft.objects import AddElements, DeleteElements, Element, Family, Table
from dataplane.nft.values import mark
first = int(sys.argv[1])
with LinuxNft(Table(Family.IP, "podwire-test")) as nft:
    for number in range(200):
        elements = tuple(Element(mark(first + offset), mark(number)) for offset in range(100))
        nft.commit([AddElements("ring", elements)])
        if number < 199:
            nft.commit([DeleteElements("ring", elements)])
"""


def test_two_processes_commit_at_once_without_losing_anything(nft, inside):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    writers = [inside.start(sys.executable, "-c", WRITER, first, env=environment) for first in ("1000", "2000")]

    assert [writer.wait(300 * PATIENCE) for writer in writers] == [0, 0]
    assert {element.value for element in nft.elements("ring")} == {mark(199)}
    assert len(nft.elements("ring")) == 200


def test_a_table_deleted_with_nft_is_missing_at_the_next_commit(nft, inside):
    inside.run("nft", "delete", "table", "ip", "podwire-test")

    with pytest.raises(TableMissing):
        nft.commit([AddElements("ring", ring(1, 1))])


def test_tables_of_others_are_not_read(nft, inside):
    inside.run(
        "nft",
        "-f",
        "-",
        stdin="add table ip other\nadd chain ip other svc\nadd table ip6 podwire-test\nadd chain ip6 podwire-test six",
    )

    assert {chain.name for chain in nft.chains()} == {"to-endpoint", "pre"}
    assert set(nft.all_rules()) == {"to-endpoint", "pre"}


def test_strange_objects_of_others_in_the_table_are_read(nft, inside):
    inside.run(
        "nft",
        "-f",
        "-",
        stdin="table ip podwire-test {\n chain odd {\n tcp dport { 1, 2 } counter log drop\n }\n }",
    )

    assert Chain("odd") in nft.chains()
    assert len(nft.rules("odd")) == 1


def test_replacing_one_rule_of_many_leaves_the_rest(nft):
    nft.commit([operation for number in range(100) for operation in service_chain(f"svc-{number}")])
    before = nft.all_rules()
    (first, _) = nft.rules("svc-50")

    nft.commit([ReplaceRule(Rule("svc-50", expressions.ct_mark_set_numgen(4, 90)), first.handle)])

    after = nft.all_rules()
    assert {chain for chain in after if after[chain] != before[chain]} == {"svc-50"}


@contextmanager
def watching(nft: LinuxNft) -> Iterator[list[Change]]:
    """The changes a monitor of this table has yielded so far."""
    seen: list[Change] = []
    monitor = nft.monitor()
    thread = threading.Thread(target=lambda: seen.extend(monitor.changes()))
    thread.start()
    try:
        yield seen
    finally:
        monitor.stop()
        thread.join(60 * PATIENCE)
        monitor.close()
        assert not thread.is_alive()


def test_a_change_by_somebody_else_is_noticed_with_its_author(nft, inside):
    with watching(nft) as changes:
        process = inside.start("nft", "add", "element", "ip", "podwire-test", "ring", "{ 1 : 2 }")
        process.wait()
        eventually(lambda: changes)

    (change,) = changes
    assert (change.table, change.what, change.command) == ("podwire-test", {"new element"}, "nft")
    assert change.process_id == process.pid
    assert change.touches(TABLE)


def test_a_change_of_another_table_is_not_one_of_ours(nft, inside):
    with watching(nft) as changes:
        inside.run("nft", "add", "table", "ip6", "podwire-test")
        eventually(lambda: changes)

    assert [change.touches(TABLE) for change in changes] == [False]


def test_our_own_changes_are_not_noticed(nft, inside):
    with watching(nft) as changes:
        nft.commit(full_table())
        nft.load("add chain ip podwire-test late")
        with pytest.raises(TransactionFailed):
            nft.commit([DeleteChain("absent")])
        inside.run("nft", "add", "table", "ip", "sentinel")
        eventually(lambda: changes)

    assert [change.table for change in changes] == ["sentinel"]


def test_our_own_changes_of_a_table_beside_are_not_noticed_either(nft, inside):
    beside = nft.beside(Table(Family.IP6, "podwire-test"))
    with watching(nft) as changes:
        beside.load("table ip6 podwire-test { chain early { }; }")
        beside.commit([AddChain(Chain("late"))])
        inside.run("nft", "add", "table", "ip", "sentinel")
        eventually(lambda: changes)

    assert [change.table for change in changes] == ["sentinel"]
    assert {chain.name for chain in beside.chains()} == {"early", "late"}


def test_a_change_during_our_own_commit_is_reported_as_lost(nft, inside):
    with watching(nft) as changes:
        with nft._change():
            inside.run("nft", "add", "table", "ip", "meanwhile")
            inside.run("nft", "add", "table", "ip", "in-place-of-ours")
        eventually(lambda: changes)

    assert [change.touches(TABLE) for change in changes] == [True]


def test_no_change_is_missed_between_many_of_our_own(nft):
    """The kernel raises the generation before it tells of a transaction: ours may begin in between."""
    stop, many = threading.Event(), ring(5001, 500)

    def commit_all_the_time() -> None:
        while not stop.is_set():
            nft.commit([AddElements("ring", ring(1, 1))])
            nft.commit([DeleteElements("ring", ring(1, 1))])

    thread = threading.Thread(target=commit_all_the_time)
    with watching(nft) as changes, LinuxNft(TABLE, netns_fd=nft._line.netns_fd) as other:
        thread.start()
        try:
            for _ in range(100):
                heard = len(changes)
                other.commit([AddElements("ring", many)])
                eventually(lambda heard=heard: len(changes) > heard, every=0.0005)
                heard = len(changes)
                other.commit([DeleteElements("ring", many)])
                eventually(lambda heard=heard: len(changes) > heard, every=0.0005)
        finally:
            stop.set()
            thread.join()


def test_more_changes_than_the_socket_can_queue_are_reported_as_lost(nft, monkeypatch):
    monkeypatch.setattr(netfilter_socket, "RECEIVE_BUFFER", 1 << 14)
    with LinuxNft(TABLE, netns_fd=nft._line.netns_fd) as other:
        monitor = nft.monitor()
        other.commit([AddElements("ring", ring(1, 5000))])
        thread = threading.Thread(target=lambda: lost.append(next(monitor.changes())))
        lost: list[Change] = []
        thread.start()
        thread.join(60 * PATIENCE)
        monitor.close()

    assert [change.touches(Table(Family.INET, "any")) for change in lost] == [True]


def test_a_closed_monitor_does_not_hinder_commits(nft):
    nft.monitor().close()

    nft.commit([AddChain(Chain("svc"))])

    assert Chain("svc") in nft.chains()


def test_without_privileges_the_error_says_so(nft, inside):
    script = (
        "from dataplane.nft.linux import LinuxNft; from dataplane.nft.objects import *; LinuxNft(Table(Family.IP, 'x'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    argv = ["setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", sys.executable, "-c", script]
    done = subprocess.run(inside.argv(*argv), env=environment, capture_output=True, text=True)

    assert "EPERM" in done.stderr
