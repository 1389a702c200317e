"""The patches kubectl sends: JSON patch, merge patch, strategic merge patch, server-side apply."""

import json
from datetime import UTC, datetime

import pytest

from api import patching
from api.patching.server_side import Applying
from kube.errors import BadRequest, Conflict, Invalid, UnsupportedMediaType
from kube.resources import PODS, SERVICES

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
HTTP = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}
DNS_UDP = {"name": "dns", "port": 53, "protocol": "UDP"}
DNS_TCP = {"name": "dns-tcp", "port": 53, "protocol": "TCP"}


def service(*ports, **metadata):
    return {"metadata": {"name": "web", **metadata}, "spec": {"ports": [dict(port) for port in ports]}}


def pod(*containers):
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers)}}


def container(name, **fields):
    return {"name": name, "image": "i", **fields}


def json_patch(obj, *operations):
    return patching.change(SERVICES, list(operations), patching.JSON)(obj)


def strategic(obj, patch, resource=SERVICES):
    return patching.change(resource, patch, patching.STRATEGIC)(obj)


# The examples of RFC 6902, appendix A.
RFC_6902 = [
    ("A1", {"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    ("A2", {"a": [1, 2]}, [{"op": "add", "path": "/a/1", "value": 9}], {"a": [1, 9, 2]}),
    ("A3", {"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
    ("A4", {"a": [1, 2, 3]}, [{"op": "remove", "path": "/a/1"}], {"a": [1, 3]}),
    ("A5", {"a": 1}, [{"op": "replace", "path": "/a", "value": 2}], {"a": 2}),
    ("A6", {"a": {"x": 1}, "b": {}}, [{"op": "move", "from": "/a/x", "path": "/b/y"}], {"a": {}, "b": {"y": 1}}),
    ("A7", {"a": [1, 2, 3]}, [{"op": "move", "from": "/a/0", "path": "/a/2"}], {"a": [2, 3, 1]}),
    ("A8", {"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
    ("A10", {}, [{"op": "add", "path": "/a", "value": {"b": {}}}], {"a": {"b": {}}}),
    ("A14", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ("A16", {"a": [1]}, [{"op": "add", "path": "/a/-", "value": [2]}], {"a": [1, [2]]}),
    ("copy", {"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1], "b": [1]}),
    ("root", {"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
]


@pytest.mark.parametrize(("obj", "patch", "expected"), [row[1:] for row in RFC_6902], ids=[row[0] for row in RFC_6902])
def test_json_patch_does_what_the_rfc_says(obj, patch, expected):
    before = json.dumps(obj)

    assert json_patch(obj, *patch) == expected
    assert json.dumps(obj) == before


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/nothing"},
        {"op": "replace", "path": "/nothing", "value": 1},
        {"op": "add", "path": "/no/parent", "value": 1},
        {"op": "add", "path": "/list/3", "value": 1},
        {"op": "add", "path": "/list/01", "value": 1},
        {"op": "add", "path": "/text/x", "value": 1},
        {"op": "test", "path": "/one", "value": True},
        {"op": "test", "path": "/list", "value": [1]},
        {"op": "move", "from": "/map", "path": "/map/inside"},
        {"op": "remove", "path": ""},
        {"op": "replace", "path": "", "value": 5},
    ],
    ids=str,
)
def test_a_json_patch_that_does_not_fit_is_invalid_and_says_which_operation(operation):
    with pytest.raises(Invalid, match="JSON patch"):
        json_patch({"list": [1, 2], "text": "t", "one": 1, "map": {}}, operation)


@pytest.mark.parametrize(
    "patch",
    [{}, [5], [{}], [{"op": "explode", "path": "/a"}], [{"op": "add", "path": "/a"}], [{"op": "remove", "path": "a"}]],
    ids=str,
)
def test_a_malformed_json_patch_is_a_bad_request(patch):
    with pytest.raises(BadRequest):
        patching.change(SERVICES, patch, patching.JSON)


def test_a_json_patch_cannot_copy_without_end():
    doubling = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 40

    with pytest.raises(Invalid, match="copies more than"):
        json_patch({"a": ["x" * 1000]}, *doubling)


def test_a_merge_patch_merges_maps_and_null_removes():
    old = {"a": {"b": 1, "c": 2}, "list": [1, 2]}
    patch = {"a": {"b": None, "d": {"e": None, "f": 3}}, "list": [3]}

    assert patching.change(SERVICES, patch, patching.MERGE)(old) == {"a": {"c": 2, "d": {"f": 3}}, "list": [3]}


def test_a_strategic_patch_changes_the_item_with_the_same_key():
    patch = {"spec": {"containers": [{"name": "b", "image": "new"}]}}
    patched = strategic(pod(container("a"), container("b", tty=True)), patch, PODS)

    assert patched["spec"]["containers"] == [container("a"), {"name": "b", "image": "new", "tty": True}]


def test_a_strategic_patch_adds_an_item_with_a_new_key_and_deletes_one_on_request():
    patch = {"spec": {"ports": [{"port": 80, "$patch": "delete"}, DNS_UDP]}}

    assert strategic(service(HTTP), patch)["spec"]["ports"] == [DNS_UDP]


def test_a_strategic_patch_can_replace_a_list_or_a_map_whole():
    assert strategic(service(HTTP), {"spec": {"ports": [DNS_UDP, {"$patch": "replace"}]}})["spec"]["ports"] == [DNS_UDP]
    replaced = strategic(service(HTTP, labels={"a": "b"}), {"metadata": {"labels": {"$patch": "replace", "c": "d"}}})
    assert replaced["metadata"]["labels"] == {"c": "d"}


def test_a_strategic_patch_tells_two_ports_of_one_number_apart_by_protocol():
    patch = {"spec": {"ports": [{"port": 53, "protocol": "UDP", "targetPort": 5353}]}}
    patched = strategic(service(DNS_TCP, DNS_UDP), patch)

    assert patched["spec"]["ports"] == [DNS_TCP, DNS_UDP | {"targetPort": 5353}]


def test_a_strategic_patch_puts_items_in_the_order_it_names():
    server_only = container("injected")
    patch = {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [{"name": "c"}]}}
    old = pod(container("a"), server_only, container("c"))

    assert [each["name"] for each in strategic(old, patch, PODS)["spec"]["containers"]] == ["injected", "c", "a"]


def test_a_strategic_patch_adds_to_and_deletes_from_sets():
    old = service(finalizers=["a", "b"])
    patch = {"metadata": {"finalizers": ["c", "a"], "$deleteFromPrimitiveList/finalizers": ["b"]}}

    assert strategic(old, patch)["metadata"]["finalizers"] == ["a", "c"]


def test_a_strategic_patch_retains_only_the_named_keys_when_asked():
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "B"}}}

    assert strategic({"spec": {"strategy": {"type": "A", "more": 1}}}, patch)["spec"]["strategy"] == {"type": "B"}


def test_a_list_without_merge_keys_is_replaced_and_nulls_in_it_are_dropped():
    old = {"endpoints": [{"addresses": ["10.0.0.1"]}]}

    assert strategic(old, {"endpoints": [{"addresses": ["10.0.0.2"], "zone": None}]}) == {
        "endpoints": [{"addresses": ["10.0.0.2"]}]
    }


@pytest.mark.parametrize(
    "patch",
    [
        [],
        {"spec": {"ports": [{"name": "no key"}]}},
        {"spec": {"ports": [5]}},
        {"spec": {"$patch": "explode"}},
        {"spec": {"$setElementOrder/ports": "x"}},
        {"spec": {"$retainKeys": "x"}},
    ],
    ids=str,
)
def test_a_malformed_strategic_patch_is_a_bad_request(patch):
    with pytest.raises(BadRequest):
        strategic(service(HTTP), patch)


def test_an_unknown_patch_type_is_an_unsupported_media_type():
    with pytest.raises(UnsupportedMediaType, match="application/json-patch"):
        patching.change(SERVICES, {}, "application/json")


def applied(obj, config, manager="kubectl", *, force=False):
    return Applying(SERVICES, config, manager=manager, force=force, now=NOW).change(obj)


def test_applying_creates_updates_and_removes_what_the_applier_owns():
    first = applied({}, service(HTTP, DNS_UDP, labels={"a": "1", "b": "2"}))
    second = applied(first, service(HTTP | {"targetPort": 9090}, labels={"a": "1"}))

    assert second["spec"]["ports"] == [HTTP | {"targetPort": 9090}]
    assert second["metadata"]["labels"] == {"a": "1"}


def test_applying_the_same_again_changes_nothing_not_even_the_time():
    first = applied({}, service(HTTP))
    later = Applying(SERVICES, service(HTTP), manager="kubectl", force=False, now=NOW.replace(year=2031))

    assert later.change(first) == first


def test_applying_leaves_what_others_set_alone():
    first = applied({}, service(HTTP))
    first["spec"]["clusterIP"] = "10.96.0.7"
    first["spec"]["ports"][0]["nodePort"] = 30000
    second = applied(first, service(HTTP | {"targetPort": 9090}))

    assert second["spec"]["clusterIP"] == "10.96.0.7"
    assert second["spec"]["ports"][0]["nodePort"] == 30000


def test_a_field_another_applier_set_otherwise_is_a_conflict_that_names_it():
    first = applied({}, service(HTTP))

    with pytest.raises(Conflict) as failure:
        applied(first, service(HTTP | {"targetPort": 9090}), manager="other")
    assert failure.value.message.startswith('Apply failed with 1 conflict: conflict with "kubectl": .spec.ports[')
    assert [cause.reason for cause in failure.value.details.causes] == ["FieldManagerConflict"]


def test_force_takes_the_field_over_and_the_former_owner_cannot_remove_it():
    first = applied({}, service(HTTP, labels={"a": "1"}))
    forced = applied(first, service(HTTP, labels={"a": "2"}), manager="other", force=True)
    without = applied(forced, service(HTTP))

    assert forced["metadata"]["labels"] == without["metadata"]["labels"] == {"a": "2"}


def test_two_appliers_of_the_same_value_share_it_until_both_let_go():
    shared = applied(applied({}, service(HTTP, DNS_UDP)), service(HTTP, DNS_UDP), manager="other")
    one_left = applied(shared, service(HTTP))
    none_left = applied(one_left, service(HTTP), manager="other")

    assert one_left["spec"]["ports"] == [HTTP, DNS_UDP]
    assert none_left["spec"]["ports"] == [HTTP]


def test_a_port_without_protocol_is_the_tcp_port():
    first = applied({}, service(HTTP))
    config = {key: value for key, value in HTTP.items() if key != "protocol"}

    (port,) = applied(first, service(config | {"targetPort": 1}))["spec"]["ports"]
    assert port["targetPort"] == 1


def test_two_items_with_one_identity_are_refused():
    with pytest.raises(BadRequest, match="same port, protocol"):
        applied(applied({}, service(HTTP)), service(HTTP, HTTP | {"name": "twin"}))
