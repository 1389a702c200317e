"""Garbage from the API, field by field, at random and as bytes: never a crash, never a rule for it, always an Event that
names the field; and whoever is valid beside it is served all the time.
"""

import copy
import json
import re
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kube.resources import ENDPOINT_SLICES, SERVICES
from tests import watched
from tests.watched import Watched


@pytest.fixture(autouse=True)
def quiet() -> None:
    structlog.configure(processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])


def changed(obj: dict, path: str, value: object) -> dict:
    """The object with another value at `spec.ports.0.port`."""
    made = copy.deepcopy(obj)
    place: Any = made
    *sections, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for section in sections:
        place = place[section]
    place[last] = value
    return made


def fields(obj: object, path: str = "") -> list[str]:
    """Every path of an object: the inner nodes too."""
    if isinstance(obj, dict):
        inner = [f"{path}.{key}" for key in obj]
        return [*inner, *(each for key in obj for each in fields(obj[key], f"{path}.{key}"))]
    if isinstance(obj, list):
        inner = [f"{path}.{index}" for index in range(len(obj))]
        return [*inner, *(each for index, value in enumerate(obj) for each in fields(value, f"{path}.{index}"))]
    return []


# --- field by field

BAD_SERVICES = [
    ("metadata.labels", []),
    ("metadata.labels", None),
    ("metadata.labels", {"a": 1}),
    ("spec", None),
    ("spec", []),
    ("spec.type", "Strange"),
    ("spec.clusterIPs", "10.96.0.10"),
    ("spec.clusterIPs", [5]),
    *(("spec.clusterIPs", [text]) for text in ("x", "10.96.0.300", "010.96.0.10", "10.96.0.10/32", " 10.96.0.10")),
    *(("spec.clusterIPs", [text]) for text in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "fe80::1%eth0")),
    ("spec.ipFamilies", ["IPv5"]),
    ("spec.ports", None),
    ("spec.ports", {}),
    ("spec.ports.0", None),
    *(("spec.ports.0.port", value) for value in (0, -1, 65536, 2**70, "80", True, 80.5, None)),
    *(("spec.ports.0.protocol", value) for value in ("ICMP", "tcp", 6, None)),
    *(("spec.ports.0.nodePort", value) for value in (-1, 65536, "x", [])),
    ("spec.ports.0.name", 5),
    *(("spec.externalIPs", value) for value in ("x", ["x"], [None], ["10.0.0.1/32"])),
    *(("spec.externalIPs", [text]) for text in ("0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.5", "::ffff:10.0.0.1")),
    ("spec.sessionAffinity", "Sticky"),
    *(("spec.sessionAffinityConfig.clientIP.timeoutSeconds", value) for value in (0, -1, 86401, 2**40, "x", 1.5)),
    ("spec.internalTrafficPolicy", "Here"),
    ("spec.externalTrafficPolicy", "Here"),
    *(("spec.healthCheckNodePort", value) for value in (-1, 65536, "x")),
    *(("spec.loadBalancerSourceRanges", [text]) for text in ("x", "", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "10.0.0.0")),
    *(("status.loadBalancer.ingress.0.ip", value) for value in ("x", 5, "127.0.0.1")),
    ("status.loadBalancer.ingress.0.ipMode", "Strange"),
    ("status.loadBalancer", []),
]
# An endpoint or port that is wrong is left out; the slice it stands in is served otherwise.
BAD_SLICES = [
    ("metadata.labels", None),
    ("addressType", "IPX"),
    *(("ports.0.port", value) for value in (0, -1, 65536, "x", 1.5)),
    ("ports.0.protocol", "x"),
    ("ports.0.name", 5),
    ("ports", {}),
    ("endpoints", {}),
    ("endpoints.0", None),
    *(
        ("endpoints.0.addresses", value)
        for value in ([], None, ["x"], [5], ["10.244.0.2/24"], ["fd00::1"], ["010.244.0.2"])
    ),
    *(
        ("endpoints.0.addresses", [text])
        for text in ("0.0.0.0", "127.0.0.1", "169.254.0.1", "239.1.1.1", "１０.244.0.2")
    ),
    ("endpoints.0.conditions", None),
    ("endpoints.0.conditions.ready", "yes"),
    ("endpoints.0.nodeName", 5),
    ("endpoints.0.hints", "x"),
    ("endpoints.0.hints.forZones", None),
    ("endpoints.0.hints.forZones.0", "zone1"),
    ("metadata.annotations", []),
]
BAD_WEIGHTS = [
    "x",
    "[]",
    "5",
    '{"10.244.0.2": -1}',
    '{"10.244.0.2": 101}',
    '{"10.244.0.2": "2"}',
    "[" * 100_000,
    "{" * 100_000,
]


def names(message: str, path: str) -> bool:
    """Whether an Event speaks of this field, as msgspec or as podwire spells it, or of what it stands in or holds."""
    spoken = re.sub(r"\[(?:\d+|\.\.\.)\]", "", message)
    field = re.sub(r"\.\d+", "", path)
    return any(each in spoken for each in (field, field.replace("clusterIPs", "clusterIP"), field.rsplit(".", 1)[0]))


@pytest.mark.parametrize(("path", "value"), BAD_SERVICES, ids=str)
def test_a_service_with_a_bad_field_has_no_rule_and_an_event(path, value):
    rig = Watched()
    rig.put(SERVICES, changed(watched.service(), path, value))
    rig.put(ENDPOINT_SLICES, watched.endpoint_slice())
    rig.sync()
    rig.sync(everything=True)

    assert rig.table() == {}
    assert any(names(message, path) for message in rig.messages("web")), rig.messages()
    assert rig.is_good_served


@pytest.mark.parametrize(("path", "value"), BAD_SLICES, ids=str)
def test_an_endpoint_with_a_bad_field_has_no_rule_and_an_event(path, value):
    rig = Watched()
    rig.put(SERVICES, watched.service())
    rig.put(ENDPOINT_SLICES, changed(watched.endpoint_slice(), path, value))
    rig.sync()

    assert not any(":8080" in meaning for meaning in rig.table().values())
    assert any(names(message, path) for message in rig.messages("web-1")), rig.messages()
    assert rig.is_good_served


@pytest.mark.parametrize("text", BAD_WEIGHTS, ids=lambda text: text[:20])
def test_weights_that_are_none_leave_everybody_equal_and_are_told(text):
    rig = Watched()
    rig.put(SERVICES, watched.service())
    rig.put(ENDPOINT_SLICES, changed(watched.endpoint_slice(), "metadata.annotations", {"podwire.dev/weights": text}))
    rig.sync()

    assert "10.244.0.2:8080" in rig.table()["nodeports tcp . 30080"]
    assert any("podwire.dev/weights" in message for message in rig.messages("web-1"))


@pytest.mark.parametrize(
    "text", ["x", "drain", "drain:", "drain:x", "drain:-1s", "drain:9999h", "Keep", " reset", "1" * 400]
)
def test_a_wish_that_cannot_be_is_told_and_the_service_served(text):
    rig = Watched()
    rig.put(SERVICES, changed(watched.service(), "metadata.annotations", {"podwire.dev/on-endpoint-removal": text}))
    rig.put(ENDPOINT_SLICES, watched.endpoint_slice())
    rig.sync()

    assert "10.244.0.2:8080" in rig.table()["nodeports tcp . 30080"]
    assert any("podwire.dev/on-endpoint-removal" in message for message in rig.messages("web"))


@pytest.mark.parametrize("path", ["addressType"])
@pytest.mark.parametrize("value", ["IPv6", "FQDN"])
def test_a_slice_of_another_kind_of_address_is_not_served(path, value):
    rig = Watched()
    rig.put(SERVICES, watched.service())
    rig.put(ENDPOINT_SLICES, changed(watched.endpoint_slice(), path, value))
    rig.sync()

    assert not any(":8080" in meaning for meaning in rig.table().values())


@pytest.mark.parametrize(
    ("path", "value"), [("metadata.name", 5), ("metadata.name", ""), ("metadata.namespace", None), ("metadata", None)]
)
@pytest.mark.parametrize("resource", [SERVICES, ENDPOINT_SLICES], ids=["Service", "EndpointSlice"])
def test_an_object_without_a_name_is_nobodys_and_costs_nothing(resource, path, value):
    rig = Watched()
    rig.put(resource, changed(watched.service() if resource is SERVICES else watched.endpoint_slice(), path, value))
    rig.sync()

    assert rig.table() == {}
    assert rig.is_good_served


@pytest.mark.parametrize("name", ["resync", "sweep", "node"])
def test_an_object_without_a_namespace_is_no_key_of_the_rounds(name):
    rig = Watched()
    rig.put(SERVICES, changed(changed(watched.service(name), "metadata.namespace", ""), "spec.clusterIP", "10.96.0.7"))
    rig.sync(everything=True)
    rig.sync()

    assert rig.table() == {}
    assert rig.is_good_served


def test_a_service_that_turns_bad_keeps_what_it_had_and_is_told():
    rig = Watched()
    rig.put(SERVICES, watched.service())
    rig.put(ENDPOINT_SLICES, watched.endpoint_slice())
    rig.sync()
    before = rig.table()
    bad = changed(changed(watched.service(), "spec.ports.0.port", 0), "metadata.resourceVersion", "2")
    rig.put(SERVICES, bad)
    rig.sync()

    assert before
    assert rig.table() == before
    assert any("spec.ports[0].port 0" in message for message in rig.messages("web"))


# --- at random

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-1, 70000)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["", "None", "10.96.0.10", "10.96.0.99", "fd00::1", "0.0.0.0", "0.0.0.0/0", "TCP", "Local", "x" * 300]
    )
    | st.sampled_from(['a"b', "ünï", "\n", "\u0000", "\ud7ff", "../..", "{", "svc-a"])
)
GARBAGE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FUZZ = settings(max_examples=80, suppress_health_check=list(HealthCheck))


def mutations(obj: dict) -> st.SearchStrategy:
    """One to four fields of it replaced by garbage, wherever they are."""
    return st.lists(
        st.tuples(st.sampled_from([path.lstrip(".") for path in fields(obj)]), GARBAGE), min_size=1, max_size=4
    )


def mutated(obj: dict, changes: list) -> dict:
    for path, value in changes:
        try:
            obj = changed(obj, path, value)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    return obj


@FUZZ
@given(mutations(watched.service()), mutations(watched.endpoint_slice()))
@example([("spec.clusterIPs", ["10.96.0.99"])], [("ports", [])])
def test_random_garbage_hurts_nobody_else(service_changes, slice_changes):
    rig = Watched()
    rig.put(SERVICES, mutated(watched.service(), service_changes))
    rig.put(ENDPOINT_SLICES, mutated(watched.endpoint_slice(), slice_changes))
    rig.sync()
    rig.sync(everything=True)
    rig.rig.sweep()

    assert rig.is_good_served
    for place, meaning in rig.table().items():
        assert "not there" not in meaning, (place, meaning)
        assert not re.search(r"\b(?:0\.0\.0\.0|127\.\d+\.\d+\.\d+|255\.255\.255\.255)\b(?!/)", f"{place} {meaning}")


@FUZZ
@given(mutations(watched.service()))
def test_a_service_is_served_as_it_says_or_told_about_or_nobodys(service_changes):
    """What has neither a rule nor an Event is a Service the proxy need not serve: of another kind, or without ports."""
    rig = Watched()
    said = mutated(watched.service(), service_changes)
    rig.put(SERVICES, said)
    rig.put(ENDPOINT_SLICES, watched.endpoint_slice())
    rig.sync()

    assert rig.table() or rig.messages() or _is_nobodys(said)


def _is_nobodys(said: dict) -> bool:
    metadata, spec = said.get("metadata") or {}, said.get("spec") or {}
    is_named = metadata.get("name") and metadata.get("namespace")
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP", "")]
    has_address = any("." in str(each) for each in addresses)
    is_anothers = "service.kubernetes.io/service-proxy-name" in (metadata.get("labels") or {})
    return not is_named or not spec.get("ports") or not has_address or spec.get("type") == "ExternalName" or is_anothers


@FUZZ
@given(st.data())
def test_bytes_on_the_watch_crash_nothing(data):
    """Lines cut, repeated, with bytes changed, or noise: what is no line of a watch is refused, and all goes on."""
    rig = Watched()
    for resource, obj in ((SERVICES, watched.service()), (ENDPOINT_SLICES, watched.endpoint_slice())):
        kind = data.draw(st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "SYNC"]))
        line = bytearray(json.dumps({"type": kind, "object": obj}).encode())
        for _ in range(data.draw(st.integers(0, 5))):
            position = data.draw(st.integers(0, len(line) - 1))
            line[position : position + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
            line = line or bytearray(b" ")
        rig.line(resource, bytes(line))
        rig.line(resource, data.draw(st.binary(max_size=40)))
    rig.sync()
    rig.sync(everything=True)

    assert rig.is_good_served


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\0",
        b"null",
        b"[]",
        b"{}",
        b"[" * 200_000,
        b'{"type":"ADDED","object":' + b"[" * 200_000,
        b"\xff\xfe",
        b'{"type":5}',
    ],
    ids=lambda line: repr(line[:30]),
)
def test_a_line_that_is_none_is_refused(line):
    rig = Watched()

    assert not rig.line(SERVICES, line)
    assert rig.is_good_served


def test_a_watch_may_say_anything_again_and_in_any_order():
    rig = Watched()
    for _ in range(3):
        for resource, obj in ((ENDPOINT_SLICES, watched.endpoint_slice()), (SERVICES, watched.service())):
            for kind in ("DELETED", "ADDED", "MODIFIED", "DELETED", "MODIFIED"):
                rig.line(resource, json.dumps({"type": kind, "object": obj}).encode())
                rig.sync()

    assert "10.244.0.2:8080" in rig.table()["nodeports tcp . 30080"]
