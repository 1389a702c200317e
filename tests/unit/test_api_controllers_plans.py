"""The other planners: where pods go, what is lost, what is old, and the indexes they look things up in."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.controllers import apiserver, garbage, placement, scheduler
from api.controllers.index import LabelIndex, SelectorIndex
from api.controllers.writes import Writes

# Address plan: none; nothing here is reached.
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
Object = dict[str, Any]


def node(name: str, *, ready: bool = True, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec, "status": {"conditions": conditions}}


def pod(name: str, *, created: str = "2026-01-01T00:00:00Z", **spec: Any) -> Object:
    metadata = {"namespace": "default", "name": name, "creationTimestamp": created}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}


def test_pods_spread_evenly():
    planned = placement.plan([pod(f"p{n}") for n in range(6)], [node("a"), node("b"), node("c")])
    assert sorted(planned.nodes.values()) == ["a", "a", "b", "b", "c", "c"]


def test_a_pod_goes_where_the_fewest_are():
    planned = placement.plan([pod("x", nodeName="a"), pod("y", nodeName="b"), pod("z", nodeName="b"), pod("p")], [node("a"), node("b")])  # fmt: skip
    assert planned.nodes == {("default", "p"): "a"}


def test_finished_pods_do_not_weigh():
    done = pod("x", nodeName="a") | {"status": {"phase": "Succeeded"}}
    assert placement.plan([done, pod("p")], [node("a"), node("b")]).nodes == {("default", "p"): "a"}


@given(st.permutations([pod(f"p{n}") for n in range(5)]), st.permutations([node("a"), node("b")]))
def test_placement_does_not_depend_on_order(pods, nodes):
    expected = placement.plan([pod(f"p{n}") for n in range(5)], [node("a"), node("b")])
    assert placement.plan(pods, nodes) == expected


def test_a_placed_pod_is_not_placed_again():
    pods = [pod("p"), pod("q")]
    planned = placement.plan(pods, [node("a"), node("b")])
    after = [scheduler.bound(each, planned.nodes["default", each["metadata"]["name"]]) for each in pods]
    assert placement.plan(after, [node("a"), node("b")]) == placement.Placement(nodes={}, refusals={})


@pytest.mark.parametrize(
    ("nodes", "spec", "said"),
    [
        ([], {}, "no nodes available to schedule pods"),
        ([node("a", ready=False)], {}, "0/1 nodes are available: 1 node(s) were not ready."),
        ([node("a", unschedulable=True)], {}, "0/1 nodes are available: 1 node(s) were unschedulable."),
        (
            [node("a"), node("b", ready=False)],
            {"nodeSelector": {"disk": "ssd"}},
            "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) were not ready.",
        ),
        (
            [node("a", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])],
            {},
            "0/1 nodes are available: 1 node(s) had untolerated taint {k: v}.",
        ),
    ],
)
def test_a_pod_that_fits_nowhere_is_told_why(nodes, spec, said):
    assert placement.plan([pod("p", **spec)], nodes).refusals == {("default", "p"): said}


TAINT = {"key": "k", "value": "v", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "k", "value": "v", "effect": "NoExecute"}, False),
    ],
)
def test_a_taint_repels_who_does_not_tolerate_it(toleration, tolerated):
    planned = placement.plan([pod("p", tolerations=[toleration])], [node("a", taints=[TAINT])])
    assert bool(planned.nodes) is tolerated


def test_a_mild_taint_does_not_repel():
    mild = TAINT | {"effect": "PreferNoSchedule"}
    assert placement.plan([pod("p")], [node("a", taints=[mild])]).nodes


@pytest.mark.parametrize(
    "other",
    [
        pod("p", schedulerName="mine"),
        pod("p", nodeName="a"),
        pod("p") | {"status": {"phase": "Failed"}},
        {"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}},
    ],
    ids=["another-scheduler", "bound", "failed", "dying"],
)
def test_not_every_pod_waits_for_a_node(other):
    assert not placement.is_waiting(other)


def test_a_binding_never_moves_a_pod():
    assert scheduler.bound(pod("p", nodeName="a"), "b")["spec"]["nodeName"] == "a"


def test_a_condition_said_again_is_no_change():
    said = scheduler.with_scheduled(pod("p"), {"status": "False", "message": "m"}, "2026-01-01T00:00:00Z")
    assert scheduler.with_scheduled(said, {"status": "False", "message": "m"}, "2026-01-01T00:00:09Z") == said


def test_a_condition_keeps_the_time_it_turned():
    said = scheduler.with_scheduled(pod("p"), {"status": "False", "message": "m"}, "2026-01-01T00:00:00Z")
    other = scheduler.with_scheduled(said, {"status": "False", "message": "n"}, "2026-01-01T00:00:09Z")
    turned = scheduler.with_scheduled(other, {"status": "True"}, "2026-01-01T00:00:09Z")
    times = [each["status"]["conditions"][0]["lastTransitionTime"] for each in (other, turned)]
    assert times == ["2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z"]


def test_pods_are_lost_once_they_waited_long_enough():
    pods = [pod("old", created="2026-01-01T11:59:00Z"), pod("new", created="2026-01-01T11:59:59Z")]
    lost = garbage.lost_pods(pods, before=NOW - timedelta(seconds=40))
    assert [each["metadata"]["name"] for each in lost] == ["old"]


@pytest.mark.parametrize(
    ("seen", "old"),
    [
        ({"lastTimestamp": "2026-01-01T10:00:00Z"}, True),
        ({"lastTimestamp": "2026-01-01T11:30:00Z"}, False),
        ({"lastTimestamp": "2026-01-01T10:00:00Z", "series": {"lastObservedTime": "2026-01-01T11:59:00.5Z"}}, False),
        ({"eventTime": "2026-01-01T11:30:00Z"}, False),
        ({"lastTimestamp": "whenever"}, True),
        ({"lastTimestamp": "2026-01-01T11:30:00"}, True),
        ({}, True),
    ],
)
def test_an_event_is_as_old_as_it_was_last_seen(seen, old):
    event = {"metadata": {"name": "e", "creationTimestamp": "2026-01-01T09:00:00Z"}} | seen
    assert bool(garbage.old_events([event], before=NOW - timedelta(hours=1))) is old


def test_the_api_servers_service_is_created_once():
    wanted = apiserver.service(6443)
    assert apiserver.plan(wanted, None) == Writes(create=(wanted,))
    assert apiserver.plan(wanted, wanted) == Writes()


def test_a_changed_port_of_the_api_server_is_put_right():
    (planned,) = apiserver.plan(apiserver.service(6443), apiserver.service(9999)).replace
    assert planned["spec"]["ports"][0]["targetPort"] == 6443


def test_what_others_add_to_the_api_servers_service_stays():
    wanted = apiserver.service(6443)
    theirs = wanted | {"metadata": wanted["metadata"] | {"annotations": {"a": "b"}}}
    assert apiserver.plan(wanted, theirs) == Writes()


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"))
KEYS = st.tuples(st.sampled_from(["n1", "n2"]), st.sampled_from("pqr"))


@given(st.lists(st.tuples(KEYS, LABELS | st.none())), st.sampled_from(["n1", "n2"]), LABELS)
def test_the_label_index_finds_what_a_search_would(changes, namespace, wanted):
    index, truth = LabelIndex(), {}
    for key, labels in changes:
        index.remove(key) if labels is None else index.put(key, labels)
        truth[key] = labels
    expected = {
        key
        for key, labels in truth.items()
        if wanted and labels is not None and key[0] == namespace and wanted.items() <= labels.items()
    }
    assert index.select(namespace, wanted) == expected


@given(st.lists(st.tuples(KEYS, LABELS)), st.sampled_from(["n1", "n2"]), LABELS)
def test_the_selector_index_finds_what_a_search_would(changes, namespace, labels):
    index, truth = SelectorIndex(), {}
    for key, selector in changes:
        index.put(key, selector)
        truth[key] = selector
    expected = {
        key
        for key, selector in truth.items()
        if selector and key[0] == namespace and selector.items() <= labels.items()
    }
    assert set(index.matching(namespace, labels)) == expected
