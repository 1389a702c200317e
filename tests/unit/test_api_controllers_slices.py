"""The EndpointSlice planner: its laws, and what it makes of pods and Services."""

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.controllers import slices
from api.controllers.slices import MANAGER, TRIGGER_TIME
from api.controllers.writes import Writes
from api.resources.endpointslice import EndpointSliceStrategy

# Address plan: pods 10.244.0.0/16, numbered from 1.
THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"
SELECTOR = {"app": "web"}
PIECES = EndpointSliceStrategy()

Object = dict[str, Any]


def service(*, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    base = {"selector": SELECTOR, "type": "ClusterIP", "clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"]}
    spec = base | {"ports": [port()]} | spec
    return {"metadata": {"namespace": "default", "name": "web", "uid": "s1", "labels": labels or {}}, "spec": spec}


def port(name: str = "", number: int = 80, target: int | str = 8080, protocol: str = "TCP") -> Object:
    return {"name": name, "port": number, "targetPort": target, "protocol": protocol}


def pod(number: int, *, ready: bool = True, dying: bool = False, listens: int = 8080, **status: Any) -> Object:
    metadata = {"namespace": "default", "name": f"p{number:04}", "uid": f"u{number}", "labels": SELECTOR}
    if dying:
        metadata["deletionTimestamp"] = NOW
    address = f"10.244.{number // 250}.{number % 250 + 1}"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    ports = [{"name": "http", "containerPort": listens, "protocol": "TCP"}]
    return {
        "metadata": metadata,
        "spec": {"nodeName": f"n{number % 3}", "containers": [{"name": "c", "image": "i", "ports": ports}]},
        "status": {"phase": "Running", "podIP": address, "conditions": conditions} | status,
    }


def plan(owner: Object | None, pods: list[Object], existing: list[Object], **zones: str) -> Writes:
    before = copy.deepcopy((owner, pods, existing))
    planned = slices.plan(owner, pods, existing, zones=zones, changed_at=NOW)
    assert (owner, pods, existing) == before, "the planner changed its input"
    return planned


def carried_out(planned: Writes, existing: list[Object]) -> list[Object]:
    """The slices there are after the writes, as the registry would keep them."""
    kept = {piece["metadata"]["name"]: piece for piece in existing}
    for piece in planned.delete:
        del kept[piece["metadata"]["name"]]
    for piece in planned.replace:
        assert piece["metadata"]["name"] in kept
        kept[piece["metadata"]["name"]] = PIECES.default(piece)
    free = (name for name in map("web-{:05}".format, itertools.count()) if name not in kept)
    for name, piece in zip(free, planned.create, strict=False):
        kept[name] = PIECES.default(piece | {"metadata": piece["metadata"] | {"name": name}})
    for piece in kept.values():
        assert PIECES.validate(piece, None) == []
    return list(kept.values())


def held(existing: list[Object]) -> list[str]:
    return sorted(each["targetRef"]["name"] for piece in existing for each in piece["endpoints"])


def settled(owner: Object | None, pods: list[Object], existing: list[Object] | None = None) -> list[Object]:
    existing = existing or []
    return carried_out(plan(owner, pods, existing), existing)


PODS = st.lists(
    st.builds(
        pod,
        st.integers(0, 300),
        ready=st.booleans(),
        dying=st.booleans(),
        listens=st.sampled_from([8080, 9090]),
        phase=st.sampled_from(["Running", "Running", "Running", "Pending", "Failed"]),
    ),
    unique_by=lambda each: each["metadata"]["name"],
    max_size=12,
)
CROWDS = st.integers(0, 320).map(lambda count: [pod(number) for number in range(count)])
SERVICES = st.builds(
    service,
    labels=st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2"])),
    ports=st.sampled_from([[port()], [port(target="http")], [port("a"), port("b", 81, "http")], []]),
    publishNotReadyAddresses=st.booleans(),
    clusterIP=st.sampled_from(["10.96.0.7", "None"]),
)
HISTORY = st.lists(st.tuples(SERVICES, PODS | CROWDS), min_size=1, max_size=4)


def lived_through(history: list[tuple[Object, list[Object]]]) -> list[Object]:
    existing: list[Object] = []
    for owner, pods in history:
        existing = settled(owner, pods, existing)
    return existing


@given(HISTORY)
def test_the_plan_of_a_planned_state_is_empty(history):
    existing = lived_through(history)
    assert plan(*history[-1], existing) == Writes()


@given(HISTORY, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(history, random):
    *past, (owner, pods) = history
    existing = lived_through(past)
    shuffled = copy.copy(pods), copy.copy(existing)
    random.shuffle(shuffled[0])
    random.shuffle(shuffled[1])
    assert plan(owner, *shuffled) == plan(owner, pods, existing)


@given(HISTORY)
def test_after_any_history_the_slices_hold_exactly_the_pods_that_count(history):
    existing = lived_through(history)
    counted = [each for each in history[-1][1] if each["status"]["phase"] != "Failed"]
    assert held(existing) == sorted(each["metadata"]["name"] for each in counted)


@given(HISTORY)
def test_no_slice_is_larger_than_a_hundred_and_none_is_empty_beside_another(history):
    existing = lived_through(history)
    sizes = [len(piece["endpoints"]) for piece in existing]
    assert sizes
    assert max(sizes) <= 100
    assert len(sizes) == 1 or 0 not in sizes


@settings(max_examples=30)
@given(st.integers(1, 320), st.data())
def test_one_pod_less_is_one_write(count, data):
    pods = [pod(number) for number in range(count)]
    existing = settled(service(), pods)
    pods.pop(data.draw(st.integers(0, count - 1)))
    planned = plan(service(), pods, existing)
    assert len(planned.create) + len(planned.replace) + len(planned.delete) == 1


@settings(max_examples=30)
@given(st.integers(0, 320))
def test_one_pod_more_is_one_write(count):
    existing = settled(service(), [pod(number) for number in range(count)])
    planned = plan(service(), [pod(number) for number in range(count + 1)], existing)
    assert len(planned.create) + len(planned.replace) + len(planned.delete) == 1


def test_the_others_stay_where_they_are_when_one_leaves():
    existing = settled(service(), [pod(1), pod(2), pod(3)])
    (kept,) = settled(service(), [pod(1), pod(3)], existing)
    assert kept["endpoints"] == [existing[0]["endpoints"][0], existing[0]["endpoints"][2]]


def test_250_pods_are_three_slices():
    existing = settled(service(), [pod(number) for number in range(250)])
    assert sorted(len(piece["endpoints"]) for piece in existing) == [50, 100, 100]


def test_a_new_slice_carries_name_labels_owner_and_time():
    (piece,) = plan(service(labels={"team": "a"}), [pod(1)], []).create
    assert piece["metadata"] == {
        "generateName": "web-",
        "namespace": "default",
        "labels": {
            "team": "a",
            "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": MANAGER,
        },
        "annotations": {TRIGGER_TIME: NOW},
        "ownerReferences": [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "name": "web",
                "uid": "s1",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def test_an_endpoint_says_where_and_what_it_is():
    (piece,) = plan(service(), [pod(1)], [], n1="zone-a").create
    assert piece["endpoints"] == [
        {
            "addresses": ["10.244.0.2"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "n1",
            "zone": "zone-a",
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "p0001", "uid": "u1"},
        }
    ]


@pytest.mark.parametrize(
    ("ready", "dying", "publish", "expected"),
    [
        (True, False, False, (True, True, False)),
        (False, False, False, (False, False, False)),
        (True, True, False, (False, True, True)),
        (False, True, False, (False, False, True)),
        (False, False, True, (True, False, False)),
        (True, True, True, (True, True, True)),
    ],
    ids=["ready", "not-ready", "draining", "dying", "published", "published-draining"],
)
def test_conditions_follow_readiness_and_deletion(ready, dying, publish, expected):
    owner = service(publishNotReadyAddresses=publish)
    (piece,) = plan(owner, [pod(1, ready=ready, dying=dying)], []).create
    assert tuple(piece["endpoints"][0]["conditions"].values()) == expected


@pytest.mark.parametrize("status", [{"podIP": ""}, {"phase": "Succeeded"}, {"phase": "Failed"}])
def test_a_pod_without_address_or_at_its_end_does_not_count(status):
    assert held(settled(service(), [pod(1, **status)])) == []


def test_a_service_without_pods_has_one_empty_slice():
    (piece,) = settled(service(), [])
    assert piece["endpoints"] == []


def test_the_last_pod_leaving_keeps_the_slice():
    existing = settled(service(), [pod(1)])
    assert [piece["metadata"]["name"] for piece in settled(service(), [], existing)] == ["web-00000"]


def test_named_ports_that_differ_make_slices_of_their_own():
    existing = settled(service(ports=[port(target="http")]), [pod(1), pod(2, listens=9090)])
    assert sorted((piece["ports"][0]["port"], held([piece])) for piece in existing) == [
        (8080, ["p0001"]),
        (9090, ["p0002"]),
    ]


def test_a_changed_target_port_is_one_write_without_a_gap():
    existing = settled(service(), [pod(1), pod(2)])
    planned = plan(service(ports=[port(target=9090)]), [pod(1), pod(2)], existing)
    assert [piece["ports"][0]["port"] for piece in planned.replace] == [9090]
    assert not planned.create
    assert not planned.delete


def test_a_headless_services_slices_say_so():
    (piece,) = plan(service(clusterIP="None"), [pod(1)], []).create
    assert piece["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_new_labels_of_the_service_reach_its_slices():
    existing = settled(service(), [pod(1)])
    (piece,) = plan(service(labels={"team": "b"}), [pod(1)], existing).replace
    assert piece["metadata"]["labels"]["team"] == "b"


def test_a_service_made_again_takes_over_its_slices():
    existing = settled(service(), [pod(1)])
    again = service()
    again["metadata"]["uid"] = "s2"
    (piece,) = plan(again, [pod(1)], existing).replace
    assert piece["metadata"]["ownerReferences"][0]["uid"] == "s2"


def test_a_replacement_is_planned_over_one_version():
    existing = settled(service(), [pod(1)])
    existing[0]["metadata"]["resourceVersion"] = "7"
    assert plan(service(), [], existing).replace[0]["metadata"]["resourceVersion"] == "7"


@pytest.mark.parametrize("owner", [None, service(type="ExternalName")], ids=["deleted", "external-name"])
def test_slices_go_with_their_service(owner):
    existing = settled(service(), [pod(1)])
    assert plan(owner, [], existing) == Writes(delete=tuple(existing))


def test_a_service_without_selector_keeps_its_slices():
    existing = settled(service(), [pod(1)])
    assert plan(service(selector={}), [], existing) == Writes()


@pytest.mark.parametrize("owner", [None, service()], ids=["deleted", "there"])
def test_a_slice_somebody_else_made_is_left_alone(owner):
    theirs = {"metadata": {"name": "mine", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}}}
    planned = plan(owner, [], [theirs | {"addressType": "IPv4", "endpoints": [], "ports": []}])
    assert not planned.replace
    assert not planned.delete


def test_a_slice_of_another_address_type_is_not_turned_over():
    (piece,) = settled(service(), [])
    planned = plan(service(), [pod(1)], [piece | {"addressType": "FQDN"}])
    assert [len(part) for part in (planned.create, planned.replace, planned.delete)] == [1, 0, 1]


def test_a_pod_listed_twice_is_listed_once_again():
    (piece,) = settled(service(), [pod(1)])
    doubled = piece | {"endpoints": piece["endpoints"] * 2}
    assert held(settled(service(), [pod(1)], [doubled])) == ["p0001"]


def test_a_pod_made_again_under_its_name_keeps_its_place():
    existing = settled(service(), [pod(1), pod(2)])
    again = pod(1)
    again["metadata"]["uid"] = "new"
    (piece,) = settled(service(), [again, pod(2)], existing)
    assert [each["targetRef"]["uid"] for each in piece["endpoints"]] == ["new", "u2"]


def test_the_longest_service_name_still_makes_a_name():
    owner = service()
    owner["metadata"]["name"] = "w" * 63
    (piece,) = plan(owner, [], []).create
    assert len(piece["metadata"]["generateName"]) == 58


def test_a_slice_turned_over_to_other_ports_takes_no_pod_of_its_old_ports():
    owner = service(ports=[port(target="http")])
    before = settled(owner, [pod(1, listens=9090)])
    after = settled(owner, [pod(1, listens=8080), pod(2, listens=9090)], before)
    assert {piece["ports"][0]["port"]: held([piece]) for piece in after} == {8080: ["p0001"], 9090: ["p0002"]}
