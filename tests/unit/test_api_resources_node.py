"""Nodes: podCIDRs cut from the cluster CIDR, and what kubectl prints."""

from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import Any

import pytest

from api.resources.node import NodeStrategy
from kube.errors import Invalid

# Address plan: the cluster CIDR holds exactly two nodes.
CLUSTER = IPv4Network("10.244.0.0/23")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NODES = NodeStrategy(cluster_cidr=CLUSTER)


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
