"""What a Service needs in the table, as text beside this file: golden/proxy_services.nft.

To write that file anew: python -m tests.unit.test_proxy_render
"""

import difflib
from pathlib import Path

import pytest

from dataplane.nft import values
from dataplane.nft.objects import Element, Family, InvalidComment, InvalidName, check_comment, check_name
from proxy import layout, text
from proxy import state as states
from proxy.model import ServiceName, ServicePortName
from proxy.planning import Planner
from proxy.ruleset import Ruleset
from proxy.served import NOT_SERVED
from tests.services import RULESET, World, endpoint, endpoint_slice, service

GOLDEN = Path(__file__).with_name("golden") / "proxy_services.nft"


def world() -> World:
    """One Service of every kind."""
    made = World()
    made.put(service("web"), endpoint_slice("web", ["10.244.1.2", endpoint("10.244.2.2", node="node2")]))
    made.put(service("one", "10.96.0.11"), endpoint_slice("one", ["10.244.1.3"]))
    made.put(service("sticky", "10.96.0.12", affinity=600), endpoint_slice("sticky", ["10.244.1.4"]))
    made.put(service("nobody", "10.96.0.13"))
    far = endpoint("10.244.2.6", node="node2")
    made.put(service("local", "10.96.0.14", internal_traffic_policy="Local"), endpoint_slice("local", [far]))
    ports, targets = [(53, "dns", "UDP"), (53, "dns-tcp")], [(5353, "dns", "UDP"), (5353, "dns-tcp")]
    made.put(service("dns", "10.96.0.53", ports=ports), endpoint_slice("dns", ["10.244.1.5"], ports=targets))
    made.put(service("headless", "None"), endpoint_slice("headless", ["10.244.1.6"]))
    return made


def rendered() -> str:
    source = world()
    planner = Planner(source, node="node1", family="IPv4")
    drafts = [planner.draft(name, NOT_SERVED) for name in sorted(source.names())]
    state = states.union(draft.new.state for draft in drafts if draft)
    return text.format_state(state, RULESET.table).replace(", ", ",\n\t")


def test_services_of_every_kind_are_rendered_as_in_the_golden_file():
    golden = GOLDEN.read_text()
    changes = difflib.unified_diff(golden.splitlines(), rendered().splitlines(), "golden", "rendered", lineterm="")

    assert not list(changes)


@pytest.mark.parametrize(
    ("service_name", "port"),
    [("web", "http"), ("n" * 300, "p" * 300), ('quote"d', ""), ("ünïcode\n", "x y"), ("", "")],
    ids=["usual", "long", "quote", "unicode", "empty"],
)
def test_a_chain_has_a_name_the_kernel_and_nft_take(service_name, port):
    check_name("chain", layout.chain_name(ServicePortName(ServiceName("default", service_name), port, "TCP")))


def test_chains_of_names_that_look_alike_differ():
    pairs = [("a/b", "c"), ("a", "b/c"), ("a b", "c"), ("a_b", "c")]
    names = [layout.chain_name(ServicePortName(ServiceName("ns", name), port, "TCP")) for name, port in pairs]

    assert len(set(names)) == len(names)


def test_long_names_are_shortened_and_still_told_apart():
    one, other = (ServicePortName(ServiceName("ns", "n" * 250 + end), "http", "TCP") for end in "ab")

    assert layout.chain_name(one) != layout.chain_name(other)


def test_no_name_makes_a_comment_the_kernel_refuses():
    source = World()
    for index, name in enumerate(["n" * 300, 'quote"d', "ünïcode\n", "ü" * 200]):
        source.put(service(name, f"10.96.1.{index}"), endpoint_slice(name, ["10.244.1.2", "10.244.1.3"]))
    planner = Planner(source, node="node1", family="IPv4")
    for name in source.names():
        state = planner.draft(name, NOT_SERVED).new.state
        for comment in [element.comment for _, element in state.entries()]:
            check_comment(comment)


def test_state_that_the_proxy_never_writes_has_no_text():
    odd = states.State({}, {"svc-x": states.ChainContent(((),))})

    with pytest.raises(text.Unprintable, match="no nft text"):
        text.format_state(odd, RULESET.table)


def test_what_a_table_remembers_of_clients_as_text():
    key = bytes((10, 244, 1, 2)) + values.mark(0x40002000)
    remembered = Element(key, values.mark(0x40002001), timeout=600_000)

    assert text.format_affinity([remembered], RULESET.table) == (
        "add element ip podwire-proxy affinity { 10.244.1.2 . 0x40002000 timeout 600000ms : 0x40002001 }\n"
    )


# --- the text that stands still


def test_another_text_has_another_layout():
    assert RULESET.layout == Ruleset(Family.IP).layout
    assert RULESET.layout in RULESET.skeleton


def test_the_text_fits_either_family():
    six = Ruleset(Family.IP6)

    assert "table ip6 podwire-proxy" in six.skeleton
    assert "ip6 daddr . meta l4proto . th dport vmap @services" in six.skeleton
    assert "ipv4" not in "".join(line for line in six.skeleton.splitlines() if not line.startswith("#"))
    assert six.rule_counts() == RULESET.rule_counts()


def test_chains_of_affinity_are_known_by_their_names():
    names = layout.affinity_chains([60, 90])

    prefixes = ("sticky-", "sticky-cluster-", "sticky-local-", "stick-")
    assert names == {"kept", *(f"{prefix}{seconds}" for prefix in prefixes for seconds in (60, 90))}
    assert all(layout.is_affinity_chain(name) for name in names)
    assert not any(map(layout.is_affinity_chain, ("sticky-", "sticky-0", "sticky-x", "stick-60x", "pick")))
    assert RULESET.affinity_rule_counts(60).keys() == layout.affinity_chains([60])


def test_names_and_comments_are_checked_where_they_are_made():
    with pytest.raises(InvalidName):
        check_name("chain", "svc a")
    with pytest.raises(InvalidComment):
        check_comment('a "b"')


if __name__ == "__main__":
    GOLDEN.write_text(rendered())
