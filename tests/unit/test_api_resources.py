"""What all kinds share, and the small ones: Namespace, EndpointSlice, Event."""

import typing
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import resources
from api.model import Strategy
from api.resources import cells, names, shapes
from api.resources.endpointslice import EndpointSliceStrategy
from api.resources.event import EventStrategy
from api.resources.namespace import NamespaceStrategy
from api.resources.pod.shape import Pod
from api.resources.service.shape import Service
from ipam.pool import PoolError
from kube.errors import BadRequest, Forbidden, Invalid

# Address plan: clusters with room for everything.
SHAPES = {"Pod": Pod, "Service": Service}
ALL = resources.strategies((IPv4Network("10.244.0.0/16"),), (IPv4Network("10.96.0.0/16"),))
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BY_KIND = pytest.mark.parametrize("strategy", ALL, ids=lambda each: each.resource.kind)


class NothingTaken:
    def taken(self, pool: str) -> frozenset[str]:
        return frozenset()


def complaints(strategy: Strategy, obj: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, str]:
    return {error.field: str(error) for error in strategy.validate(strategy.default(obj), old)}


def piece(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "s", "namespace": "default"}, "addressType": "IPv4"} | fields


# Keys that mean something, values that mostly do not: what a confused or hostile client sends.
KEYS = st.sampled_from(
    [
        "metadata",
        "spec",
        "status",
        "name",
        "namespace",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "type",
        "ports",
        "port",
        "targetPort",
        "nodePort",
        "protocol",
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "sessionAffinity",
        "sessionAffinityConfig",
        "clientIP",
        "timeoutSeconds",
        "externalIPs",
        "selector",
        "containers",
        "initContainers",
        "image",
        "env",
        "volumes",
        "volumeMounts",
        "readinessProbe",
        "httpGet",
        "tcpSocket",
        "resources",
        "limits",
        "requests",
        "podCIDR",
        "podCIDRs",
        "taints",
        "endpoints",
        "addresses",
        "addressType",
        "conditions",
        "involvedObject",
        "tolerations",
        "nodeSelector",
        "restartPolicy",
        "loadBalancerSourceRanges",
        "externalTrafficPolicy",
        "healthCheckNodePort",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.sampled_from(["", "None", "LoadBalancer", "ClientIP", "Local"])
LEAVES |= st.text(max_size=8) | st.floats(allow_nan=False)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=30
)


@BY_KIND
@settings(max_examples=30)
@given(obj=st.dictionaries(KEYS, JSON, max_size=6))
def test_garbage_is_refused_and_never_crashes(strategy, obj):
    _survives(strategy, obj)


TEXTS = st.sampled_from(
    ["", "a", "A b", "None", "ClientIP", "NodePort", "LoadBalancer", "ExternalName", "Local", "TCP"]
)
TEXTS |= st.sampled_from(
    ["10.96.0.7", "10.244.3.0/24", "::1", "IPv4", "IPv6", "Always", "2026-01-01T00:00:00Z", "x\u2028"]
)
NUMBERS = st.sampled_from([-1, 0, 1, 80, 30080, 65536, 2**31 - 1, 2**31])


def shaped(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type: every field may be there or not, and holds what may or may not make sense."""
    if typing.is_typeddict(kind):
        fields = typing.get_type_hints(kind)
        return st.deferred(lambda: st.fixed_dictionaries({}, optional={key: shaped(fields[key]) for key in fields}))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return st.lists(shaped(arguments[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(TEXTS, shaped(arguments[1]), max_size=2)
    if arguments:
        return st.one_of(*map(shaped, arguments))
    return {str: TEXTS, int: NUMBERS, bool: st.booleans(), float: st.just(0.5)}.get(kind, TEXTS)


@BY_KIND
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=st.data())
def test_nonsense_of_the_right_shape_is_refused_and_never_crashes(strategy, drawn):
    kind = strategy.resource.kind
    obj = drawn.draw(shaped(SHAPES.get(kind) or getattr(shapes, kind)))
    _survives(strategy, obj | {"metadata": {"name": "a", "namespace": "default"}})


def _survives(strategy: Strategy, obj: dict[str, Any]) -> None:
    """An object of any shape is refused with an error of the API, or admitted; and then it can be shown and updated."""
    try:
        whole = strategy.default(obj)
        if strategy.validate(whole, None):
            return
        admitted = strategy.admit(whole, None, NothingTaken()).obj
    except (BadRequest, Invalid):
        return
    assert strategy.validate(strategy.default(admitted), admitted) == []
    assert [column.cell(admitted, NOW) for column in strategy.columns]
    assert all(isinstance(value, str) for value in strategy.selectable_fields(admitted).values())


@BY_KIND
def test_defaults_are_the_same_a_second_time(strategy):
    once = strategy.default({"metadata": {"name": "a"}})
    assert strategy.default(once) == once


@BY_KIND
def test_every_kind_needs_a_name(strategy):
    assert "name or generateName is required" in complaints(strategy, {"metadata": {}})["metadata.name"]


@BY_KIND
def test_an_object_nested_too_deeply_is_a_bad_request(strategy):
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"spec": deep}
    with pytest.raises(BadRequest, match="nested too deeply"):
        strategy.default(deep)


@BY_KIND
@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"labels": {"a/b/c": ""}}, "metadata.labels"),
        ({"labels": {"": "x"}}, "metadata.labels"),
        ({"labels": {"a": "-x"}}, "metadata.labels"),
        ({"labels": {"a": "x" * 64}}, "metadata.labels"),
        ({"annotations": {"a b": ""}}, "metadata.annotations"),
        ({"annotations": {"a": "x" * 300_000}}, "metadata.annotations"),
        ({"ownerReferences": [{"kind": "Service", "name": "a", "uid": "u"}]}, "metadata.ownerReferences[0].apiVersion"),
        ({"finalizers": ["-"]}, "metadata.finalizers[0]"),
    ],
)
def test_metadata_is_checked_for_every_kind(strategy, metadata, field):
    assert field in complaints(strategy, {"metadata": {"name": "a"} | metadata})


def test_a_service_cidr_without_room_is_refused_at_the_start():
    with pytest.raises(PoolError):
        resources.strategies((IPv4Network("10.244.0.0/16"),), (IPv4Network("10.96.0.0/32"),))


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (names.dns_label, ["a", "a-1", "1a", "x" * 63], ["", "A", "-a", "a-", "a.b", "a\n", "x" * 64]),
        (names.dns_1035_label, ["a", "a-1"], ["1a", "a.b", ""]),
        (names.dns_subdomain, ["a.b", "a-1.b2", "1"], ["a..b", ".a", "A", "x" * 254]),
        (names.qualified_name, ["a", "A_b.c", "k8s.io/name"], ["/a", "k8s.io/", "a/b/c", "K8S.io/a", "a b"]),
    ],
)
def test_names_follow_their_grammar(check, good, bad):
    assert [text for text in good if check("f", text)] == []
    assert [text for text in bad if not check("f", text)] == []


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "<invalid>"),
        (-0.5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (187, "3m7s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 61, "3h1m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (8 * 86400, "8d"),
        (2 * 365 * 86400, "2y"),
        (2 * 365 * 86400 + 86400, "2y1d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_ages_print_as_kubectls_do(seconds, expected):
    assert cells.duration(seconds) == expected


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (None, "<unknown>"),
        ((NOW - timedelta(minutes=5)).isoformat(), "5m"),
        ("2026-01-01T11:59:00Z", "60s"),
        ("2026-01-01T11:59:00.123456Z", "59s"),
        ("yesterday", "<invalid>"),
        ("2026-01-01T11:59:00", "<invalid>"),
    ],
)
def test_the_time_since_is_told_for_any_timestamp(timestamp, expected):
    assert cells.since(timestamp, NOW) == expected


def test_a_namespace_carries_its_name_as_a_label():
    assert NamespaceStrategy().default({"metadata": {"name": "x"}})["metadata"]["labels"] == {
        "kubernetes.io/metadata.name": "x"
    }


def test_a_namespace_starts_with_its_finalizer():
    strategy = NamespaceStrategy()
    assert strategy.admit(strategy.default({"metadata": {"name": "x"}}), None, NothingTaken()).obj["spec"] == {
        "finalizers": ["kubernetes"]
    }


def test_an_active_namespace_keeps_its_finalizer():
    strategy = NamespaceStrategy()
    old = strategy.admit(strategy.default({"metadata": {"name": "x"}}), None, NothingTaken()).obj
    assert strategy.admit(strategy.default({"metadata": {"name": "x"}}), old, NothingTaken()).obj == old


def test_a_namespace_being_deleted_is_terminating():
    going = NamespaceStrategy().default({"metadata": {"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    assert going["status"]["phase"] == "Terminating"


@pytest.mark.parametrize("name", ["default", "kube-system"])
def test_a_system_namespace_cannot_be_deleted(name):
    with pytest.raises(Forbidden, match="this namespace may not be deleted"):
        NamespaceStrategy().graceful_seconds({"metadata": {"name": name}}, 0)


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"addressType": ""}, "addressType", "Required value"),
        ({"addressType": "IPX"}, "addressType", 'Unsupported value: "IPX"'),
        ({"endpoints": [{}]}, "endpoints[0].addresses", "must contain at least 1 address"),
        ({"endpoints": [{"addresses": ["10.0.0.300"]}]}, "endpoints[0].addresses[0]", "must be a valid IP address"),
        ({"endpoints": [{"addresses": ["::1"]}]}, "endpoints[0].addresses[0]", "must be an IPv4 address"),
        ({"endpoints": [{"addresses": ["127.0.0.1"]}]}, "endpoints[0].addresses[0]", "loopback range"),
        ({"endpoints": [{"addresses": ["10.0.0.1"]}] * 1001}, "endpoints", "must have at most 1000 items"),
        ({"ports": [{"port": 70000}]}, "ports[0].port", "must be between 1 and 65535, inclusive"),
        ({"ports": [{"port": 1}, {"port": 2}]}, "ports[1].name", 'Duplicate value: ""'),
        ({"ports": [{"port": 1, "protocol": "X"}]}, "ports[0].protocol", 'Unsupported value: "X"'),
        ({"endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "N"}]}, "endpoints[0].nodeName", "RFC 1123 subdomain"),
    ],
)
def test_a_wrong_field_of_a_slice_is_named(fields, field, said):
    assert said in complaints(EndpointSliceStrategy(), piece(**fields))[field]


def test_a_slices_address_type_may_not_change():
    assert (
        "field is immutable" in complaints(EndpointSliceStrategy(), piece(addressType="IPv6"), piece())["addressType"]
    )


def test_a_slices_ports_are_completed():
    assert EndpointSliceStrategy().default(piece(ports=[{"port": 80}]))["ports"] == [
        {"port": 80, "name": "", "protocol": "TCP"}
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["IPv4", "<unset>", "<unset>"]),
        (
            {"ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]},
            ["IPv4", "80", "10.0.0.1,10.0.0.2"],
        ),
        (
            {"endpoints": [{"addresses": [f"10.0.0.{n}"]} for n in range(1, 6)]},
            ["IPv4", "<unset>", "10.0.0.1,10.0.0.2,10.0.0.3 + 2 more..."],
        ),
    ],
)
def test_kubectl_prints_a_slice_as_it_does_elsewhere(fields, expected):
    strategy = EndpointSliceStrategy()
    assert [column.cell(strategy.default(piece(**fields)), NOW) for column in strategy.columns[1:4]] == expected


EVENT = {
    "metadata": {"name": "e", "namespace": "default"},
    "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
    "type": "Warning",
    "reason": "Failed",
    "message": "no image ",
    "source": {"component": "lab", "host": "n1"},
    "firstTimestamp": "2026-01-01T11:50:00Z",
    "lastTimestamp": "2026-01-01T11:59:00Z",
    "count": 3,
}


def test_kubectl_prints_an_event_as_it_does_elsewhere():
    assert [column.cell(EVENT, NOW) for column in EventStrategy().columns] == [
        "60s", "Warning", "Failed", "pod/p", "", "lab, n1", "no image", "10m", "3", "e",
    ]  # fmt: skip


def test_an_event_belongs_where_its_object_is():
    elsewhere = EVENT | {"metadata": {"name": "e", "namespace": "other"}}
    assert "involvedObject.namespace" in complaints(EventStrategy(), elsewhere)
