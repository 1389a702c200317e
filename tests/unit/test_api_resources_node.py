"""Nodes: podCIDRs cut from the cluster CIDR, and what kubectl prints."""

from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest

from api.resources.node import NodeStrategy
from kube.errors import Invalid

# Address plan: the cluster CIDR holds exactly two nodes.
CLUSTER = IPv4Network("10.244.0.0/23")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NODES = NodeStrategy(cluster_cidrs=(CLUSTER,))


class Taken:
    def __init__(self, *cidrs: str) -> None:
        self._cidrs = frozenset(cidrs)

    def taken(self, pool: str) -> frozenset[str]:
        return self._cidrs if pool == "podcidrs" else frozenset()


def node(name: str = "n1", status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return NODES.default({"metadata": {"name": name}, "spec": spec, "status": status or {}})


def complaints(obj: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, str]:
    return {error.field: str(error) for error in NODES.validate(obj, old)}


def test_a_node_gets_the_lowest_free_slash_24():
    assert NODES.admit(node(), None, Taken("10.244.0.0/24")).obj["spec"] == {
        "podCIDR": "10.244.1.0/24",
        "podCIDRs": ["10.244.1.0/24"],
    }


def test_its_pod_cidr_is_claimed():
    claims = NODES.admit(node(podCIDR="10.244.1.0/24"), None, Taken()).claims
    assert {(claim.pool, claim.value) for claim in claims} == {("podcidrs", "10.244.1.0/24")}


def test_an_exhausted_cluster_cidr_is_said_with_the_field_and_what_to_do():
    with pytest.raises(Invalid, match="delete a Node that is gone, or start podwire-api with a larger") as refused:
        NODES.admit(node("n3"), None, Taken("10.244.0.0/24", "10.244.1.0/24"))
    (cause,) = refused.value.causes
    assert cause.field == "spec.podCIDR"
    assert "the cluster CIDR 10.244.0.0/23 is exhausted" in cause.message


@pytest.mark.parametrize(
    ("cidr", "said"),
    [
        ("10.245.0.0/24", 'Invalid value: "10.245.0.0/24": must lie inside the cluster CIDR 10.244.0.0/23'),
        ("fd00::/64", "must lie inside the cluster CIDR"),
        ("10.244.0.1/24", "must be a valid CIDR value"),
        ("10.244.0.0", "must be a valid CIDR value"),
        ("10.244.0.0/31", "must be between a /16 and a /30"),
    ],
)
def test_a_pod_cidr_that_cannot_be_used_is_refused(cidr, said):
    assert said in complaints(node(podCIDR=cidr))["spec.podCIDR"]


@pytest.mark.parametrize("cidr", ["10.244.1.0/24", "10.244.1.128/25", "10.244.0.0/23"])
def test_a_pod_cidr_that_overlaps_another_nodes_is_refused(cidr):
    with pytest.raises(Invalid, match=r"overlaps 10\.244\.1\.0/24, which another node holds"):
        NODES.admit(node(podCIDR=cidr), None, Taken("10.244.1.0/24"))


def test_overlap_shows_in_the_claims_of_any_size():
    wide = NODES.admit(node(podCIDR="10.244.0.0/23"), None, Taken()).claims
    narrow = NODES.admit(node(podCIDR="10.244.1.64/26"), None, Taken()).claims
    assert narrow < wide


def test_an_update_that_leaves_the_pod_cidr_out_keeps_it():
    old = NODES.admit(node(), None, Taken()).obj
    assert complaints(node(), old) == {}
    assert NODES.admit(node(), old, Taken("10.244.0.0/24")).obj["spec"] == old["spec"]


@pytest.mark.parametrize("spec", [{"podCIDR": "10.244.1.0/24"}, {"podCIDRs": ["10.244.0.0/24", "10.244.1.0/24"]}])
def test_a_pod_cidr_may_not_change(spec):
    old = NODES.admit(node(), None, Taken()).obj
    assert (
        'node updates may not change podCIDR except from "" to valid' in complaints(node(**spec), old)["spec.podCIDR"]
    )


def test_a_taint_needs_a_known_effect():
    assert (
        'Unsupported value: "Nope"'
        in complaints(node(taints=[{"key": "a", "effect": "Nope"}]))["spec.taints[0].effect"]
    )


READY = {"type": "Ready", "status": "True"}


@pytest.mark.parametrize(
    ("conditions", "unschedulable", "expected"),
    [
        ([], False, "Unknown"),
        ([READY], False, "Ready"),
        ([READY | {"status": "False"}], False, "NotReady"),
        ([READY | {"status": "Unknown"}], False, "NotReady"),
        ([READY], True, "Ready,SchedulingDisabled"),
    ],
)
def test_kubectl_prints_a_nodes_status_as_it_does_elsewhere(conditions, unschedulable, expected):
    printed = NODES.columns[1].cell(node(status={"conditions": conditions}, unschedulable=unschedulable), NOW)
    assert printed == expected


def test_roles_come_from_labels():
    labelled = node() | {"metadata": {"labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}}}
    assert NODES.columns[2].cell(labelled, NOW) == "edge,worker"


def test_wide_columns_describe_the_machine():
    status = {
        "addresses": [{"type": "InternalIP", "address": "192.168.7.2"}],
        "nodeInfo": {"kubeletVersion": "podwire 0.1.0", "osImage": "Debian 12", "kernelVersion": "6.1"},
    }
    assert [column.cell(node(status=status), NOW) for column in NODES.columns[4:]] == [
        "podwire 0.1.0",
        "192.168.7.2",
        "<none>",
        "Debian 12",
        "6.1",
        "<unknown>",
    ]


DUAL = NodeStrategy(cluster_cidrs=(CLUSTER, IPv6Network("fd00:10:244::/63")))


def test_a_node_gets_a_pod_cidr_of_each_family():
    assert DUAL.admit(node(), None, Taken("10.244.0.0/24")).obj["spec"] == {
        "podCIDR": "10.244.1.0/24",
        "podCIDRs": ["10.244.1.0/24", "fd00:10:244::/64"],
    }


def test_both_pod_cidrs_are_claimed():
    claims = DUAL.admit(node(), None, Taken("fd00:10:244::/64")).claims
    assert {claim.value for claim in claims} == {"10.244.0.0/24", "fd00:10:244:1::/64"}


def test_the_main_family_comes_first_however_a_user_wrote_them():
    spec = DUAL.admit(node(podCIDRs=["fd00:10:244:1::/64"]), None, Taken()).obj["spec"]
    assert spec == {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00:10:244:1::/64"]}


def test_a_node_of_before_gets_the_missing_family_with_the_next_write():
    old = NODES.admit(node(), None, Taken()).obj
    spec = DUAL.admit(old, old, Taken("10.244.0.0/24")).obj["spec"]
    assert spec["podCIDRs"] == ["10.244.0.0/24", "fd00:10:244::/64"]


def test_an_exhausted_second_family_does_not_keep_an_old_node_from_being_written():
    old = NODES.admit(node(), None, Taken()).obj
    full = Taken("10.244.0.0/24", "fd00:10:244::/64", "fd00:10:244:1::/64")
    assert DUAL.admit(old, old, full).obj["spec"]["podCIDRs"] == ["10.244.0.0/24"]


def test_a_new_node_needs_every_family():
    with pytest.raises(Invalid, match="the cluster CIDR fd00:10:244::/63 is exhausted"):
        DUAL.admit(node(), None, Taken("fd00:10:244::/64", "fd00:10:244:1::/64"))


@pytest.mark.parametrize(
    ("cidrs", "field", "said"),
    [
        (["10.244.0.0/24", "10.244.1.0/24"], "spec.podCIDRs", "no more than one CIDR for each IP family"),
        (["10.244.0.0/24", "fd00:99::/64"], "spec.podCIDRs[1]", "10.244.0.0/23,fd00:10:244::/63"),
        (["10.244.0.0/24", "fd00:10:244::/127"], "spec.podCIDRs[1]", "must be between a /56 and a /126"),
    ],
)
def test_pod_cidrs_of_two_families_are_checked_each(cidrs, field, said):
    wanted = DUAL.default({"metadata": {"name": "n1"}, "spec": {"podCIDRs": cidrs}})
    assert said in {error.field: str(error) for error in DUAL.validate(wanted, None)}[field]


def test_an_update_with_the_older_field_alone_keeps_both():
    old = DUAL.admit(node(), None, Taken()).obj
    new = DUAL.default({"metadata": {"name": "n1"}, "spec": {"podCIDR": "10.244.0.0/24"}})
    assert DUAL.validate(new, old) == []
    assert DUAL.admit(new, old, Taken()).obj["spec"] == old["spec"]
