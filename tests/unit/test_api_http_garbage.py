"""Whatever a client sends, the server answers with a Status it can explain, stores nothing broken, and goes on."""

import json
import struct
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import http, negotiation, patching, protobuf, resources
from api.auth import Authenticator
from api.protobuf import kinds
from api.registry import Registry
from api.store.sqlite import SqliteStore
from kube.resources import NAMESPACES

HEADERS = {"Authorization": "Bearer t"}
COLLECTIONS = [
    "/api/v1/namespaces",
    "/api/v1/nodes",
    "/api/v1/namespaces/default/pods",
    "/api/v1/namespaces/default/services",
    "/api/v1/namespaces/default/events",
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
]
CONTENT_TYPES = [negotiation.JSON, protobuf.CONTENT_TYPE, *patching.CONTENT_TYPES]

WORDS = st.sampled_from(
    ["metadata", "spec", "status", "name", "labels", "ports", "port", "protocol", "containers", "endpoints", "addresses",
     "selector", "clusterIP", "type", "finalizers", "ownerReferences", "op", "path", "value", "$patch", "items", "kind"]
)  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["", "a", "TCP", "10.96.0.1", "None", "0", "/spec/ports/0", "\ud7ff", "\x00", "delete", "a/b", ".."]
    )
)
JSON_VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5),
    max_leaves=25,
)
NAMED = st.fixed_dictionaries(
    {"metadata": st.fixed_dictionaries({"name": st.just("thing")})},
    optional={"spec": JSON_VALUES, "status": JSON_VALUES},
)
BODIES = (
    st.binary(max_size=60)
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | NAMED.map(lambda value: json.dumps(value).encode())
)


@pytest.fixture(scope="module")
def flask():
    strategies = resources.strategies((IPv4Network("10.244.0.0/16"),), (IPv4Network("10.96.0.0/16"),))
    registry = Registry(SqliteStore(":memory:"), strategies)
    registry.create(NAMESPACES, None, {"metadata": {"name": "default"}})
    return http.create_app(registry, Authenticator("t")).test_client()


def assert_explained(answer):
    assert answer.status_code < 500, answer.get_data(as_text=True)
    body = json.loads(answer.get_data())
    if answer.status_code >= 400:
        assert (body["kind"], body["code"]) == ("Status", answer.status_code)
        assert body["message"]


def assert_all_collections_list(flask):
    for path in COLLECTIONS:
        for accept in ("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"):
            assert_explained(flask.get(path, headers=HEADERS | {"Accept": accept}))


@given(path=st.sampled_from(COLLECTIONS), body=BODIES, content_type=st.sampled_from(CONTENT_TYPES[:2]))
def test_creating_garbage(flask, path, body, content_type):
    answer = flask.post(path, data=body, content_type=content_type, headers=HEADERS)

    assert_explained(answer)
    if answer.status_code == 201:
        assert_all_collections_list(flask)


@given(path=st.sampled_from(COLLECTIONS), body=BODIES, content_type=st.sampled_from(CONTENT_TYPES))
def test_changing_with_garbage(flask, path, body, content_type):
    specs = {"services": {"ports": [{"port": 80}]}, "pods": {"containers": [{"name": "c", "image": "i"}]}}
    there = {"metadata": {"name": "there"}, "spec": specs.get(path.rpartition("/")[2], {}), "addressType": "IPv4"}
    there |= {"involvedObject": {"namespace": "default"}} if path.endswith("events") else {}
    flask.post(path, json=there, headers=HEADERS)

    method = flask.patch if "patch" in content_type else flask.put
    for target in ("there", "there/status"):
        query = "?fieldManager=me&force=true" if content_type == patching.APPLY else ""
        answer = method(f"{path}/{target}{query}", data=body, content_type=content_type, headers=HEADERS)
        assert_explained(answer)
    assert_all_collections_list(flask)


@given(path=st.sampled_from(COLLECTIONS), body=BODIES)
def test_deleting_with_garbage(flask, path, body):
    assert_explained(flask.delete(f"{path}/there", data=body, content_type="application/json", headers=HEADERS))


PARAMETERS = [
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "includeObject",
    "dryRun",
]
ARGUMENTS = ["a=b", "metadata.name=x", "5", "0", "-1", "1e9", "Exact", "bnVsbA", "eyJydiI6MX0"]


@given(
    path=st.sampled_from(COLLECTIONS),
    query=st.dictionaries(st.sampled_from(PARAMETERS), st.text(max_size=12) | st.sampled_from(ARGUMENTS)),
)
def test_listing_with_garbage(flask, path, query):
    assert_explained(flask.get(path, query_string=query, headers=HEADERS))


@given(body=st.binary(max_size=80), kind=st.sampled_from(sorted(kinds.TOP)))
def test_protobuf_garbage(flask, body, kind):
    version, name = (part.encode() for part in kind)
    identity = b"\x0a%c%b\x12%c%b" % (len(version), version, len(name), name)
    envelope = b"k8s\x00\x0a%c%b\x12%c%b" % (len(identity), identity, len(body), body)

    assert_explained(flask.post(COLLECTIONS[0], data=envelope, content_type=protobuf.CONTENT_TYPE, headers=HEADERS))


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"metadata":{"labels":'], ids=["arrays", "maps", "labels"])
def test_a_bottomless_body(flask, opening):
    assert_explained(
        flask.post(COLLECTIONS[0], data=opening * 100_000, content_type="application/json", headers=HEADERS)
    )


def test_numbers_no_computer_holds(flask):
    for number in ("1e999", "-1e999", "9" * 5000, "NaN", "Infinity"):
        body = f'{{"metadata":{{"name":"n"}},"spec":{{"x":{number}}}}}'
        assert_explained(flask.post(COLLECTIONS[0], data=body, content_type="application/json", headers=HEADERS))
    assert_all_collections_list(flask)


def _message(*fields):
    """Protobuf, from (number, value) pairs; the other half of api.protobuf, written apart from it."""
    encoded = b""
    for number, value in fields:
        if isinstance(value, int):
            encoded += _varint(number << 3) + _varint(value)
        else:
            encoded += _varint(number << 3 | 2) + _varint(len(value)) + value
    return encoded


def _varint(value):
    value &= 0xFFFFFFFFFFFFFFFF
    encoded = b""
    while value > 0x7F:
        encoded += struct.pack("B", value & 0x7F | 0x80)
        value >>= 7
    return encoded + struct.pack("B", value)


def test_a_service_in_protobuf_is_the_same_as_in_json(flask):
    target_port = _message((1, 1), (2, 0), (3, b"http"))
    port = _message((1, b"web"), (2, b"TCP"), (3, 80), (4, target_port), (5, 0))
    spec = _message((1, port), (2, _message((1, b"app"), (2, b"web"))), (3, b""), (4, b"ClusterIP"), (13, 0))
    metadata = _message((1, b"from-go"), (8, b""), (11, _message((1, b"a"), (2, b"b"))))
    service = _message((1, metadata), (2, spec), (3, _message((1, b""))))
    body = b"k8s\x00" + _message((1, _message((1, b"v1"), (2, b"Service"))), (2, service), (3, b""), (4, b""))
    answer = flask.post(COLLECTIONS[3], data=body, content_type=protobuf.CONTENT_TYPE, headers=HEADERS)
    made = json.loads(answer.get_data())

    assert answer.status_code == 201
    assert made["metadata"]["labels"] == {"a": "b"}
    assert made["spec"]["selector"] == {"app": "web"}
    assert made["spec"]["ports"] == [{"name": "web", "port": 80, "protocol": "TCP", "targetPort": "http"}]


def test_a_protobuf_field_nobody_knows_is_refused_rather_than_lost(flask):
    body = b"k8s\x00" + _message((1, _message((1, b"v1"), (2, b"Service"))), (2, _message((99, b"?"))))
    answer = flask.post(COLLECTIONS[3], data=body, content_type=protobuf.CONTENT_TYPE, headers=HEADERS)

    assert answer.status_code == 400
    assert "field 99" in json.loads(answer.get_data())["message"]


@pytest.mark.parametrize(
    ("mode", "code", "warns"), [("Strict", 400, False), ("Warn", 200, True), ("", 200, True), ("Ignore", 200, False)]
)
def test_a_field_nobody_knows_is_refused_warned_of_or_ignored_as_asked(flask, mode, code, warns):
    flask.post(COLLECTIONS[3], json={"metadata": {"name": "typo"}, "spec": {"ports": [{"port": 80}]}}, headers=HEADERS)
    patch = {"spec": {"ports": [{"port": 80, 'targetport\n"ü': 1}]}}
    path = f"{COLLECTIONS[3]}/typo?dryRun=All&fieldValidation={mode}"
    answer = flask.patch(path, json=patch, headers=HEADERS | {"Content-Type": patching.MERGE})

    assert answer.status_code == code
    assert bool(answer.headers.getlist("Warning")) is warns
    if code == 400:
        assert 'unknown field "spec.ports[0].targetport' in json.loads(answer.get_data())["message"]
