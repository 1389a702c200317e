import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube import errors
from kube.errors import AlreadyExists, ApiError, Conflict, FieldError, Gone, Invalid, NotFound, from_status, to_status
from kube.resources import ENDPOINT_SLICES, SERVICES

PORT = FieldError("spec.ports[0].port", 70000, "must be between 1 and 65535, inclusive")


def through_the_wire(error: ApiError) -> ApiError:
    return from_status(error.code, json.dumps(to_status(error)).encode())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NotFound.of(SERVICES, "web"), 'services "web" not found'),
        (NotFound.of(ENDPOINT_SLICES, "web-1"), 'endpointslices.discovery.k8s.io "web-1" not found'),
        (AlreadyExists.of(SERVICES, "web"), 'services "web" already exists'),
        (
            Conflict.of(SERVICES, "web"),
            (
                'Operation cannot be fulfilled on services "web": the object has been modified; '
                "please apply your changes to the latest version and try again"
            ),
        ),
        (
            Invalid.of(SERVICES, "web", [PORT]),
            'Service "web" is invalid: spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive',
        ),
        (
            Invalid.of(ENDPOINT_SLICES, "web", [PORT, FieldError("addressType", "", "", "FieldValueRequired")]),
            (
                'EndpointSlice.discovery.k8s.io "web" is invalid: [spec.ports[0].port: Invalid value: 70000: must be '
                "between 1 and 65535, inclusive, addressType: Required value]"
            ),
        ),
    ],
)
def test_message_is_worded_as_kubernetes_words_it(error, message):
    assert error.message == message


@pytest.mark.parametrize(
    ("field_error", "text"),
    [
        (PORT, "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive"),
        (FieldError("spec.type", "Odd", 'supported values: "ClusterIP"', "FieldValueNotSupported"),
         'spec.type: Unsupported value: "Odd": supported values: "ClusterIP"'),
        (FieldError("spec.ports", None, "", "FieldValueRequired"), "spec.ports: Required value"),
        (FieldError("spec.clusterIP", "10.96.0.7", "", "FieldValueDuplicate"),
         'spec.clusterIP: Duplicate value: "10.96.0.7"'),
        (FieldError("metadata.name", "x" * 300, "may not be more than 253 bytes", "FieldValueTooLong"),
         "metadata.name: Too long: may not be more than 253 bytes"),
        (FieldError("spec", object, "odd"), "spec: Invalid value: \"<class 'object'>\": odd"),
    ],
)  # fmt: skip
def test_a_field_error_names_field_value_and_problem(field_error, text):
    assert str(field_error) == text


@pytest.mark.parametrize(
    "kind", [kind for kind in ApiError.__subclasses__() if kind.__module__ == errors.__name__], ids=lambda k: k.__name__
)
def test_every_error_comes_back_as_itself(kind):
    received = through_the_wire(kind("because"))
    assert (type(received), received.code, received.reason, received.message) == (
        kind,
        kind.code,
        kind.reason,
        "because",
    )


def test_causes_come_back():
    received = through_the_wire(Invalid.of(SERVICES, "web", [PORT]))
    assert received.causes == (PORT.to_cause(),)
    assert received.details.kind == "Service"


def test_a_status_is_what_kubectl_reads():
    assert to_status(NotFound.of(SERVICES, "web")) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'services "web" not found',
        "reason": "NotFound",
        "details": {"name": "web", "kind": "services"},
        "code": 404,
    }


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (404, b"404 page not found\n", NotFound),
        (409, b"{}", Conflict),
        (410, b"", Gone),
        (0, b'{"code":410,"reason":"Gone","message":"too old"}', Gone),
        (0, b'{"code":410,"reason":"Expired"}', Gone),
        (500, b'{"reason":"NotFound"}', NotFound),
        (418, b"short and stout", ApiError),
        (502, b"<html><body>Bad gateway</body></html>", ApiError),
        (404, b'{"message":null,"reason":null,"details":null}', NotFound),
        (404, b'{"details":"odd"}', NotFound),
        (500, b'"a string"', errors.InternalError),
    ],
)
def test_any_refusal_becomes_the_nearest_error(code, body, expected):
    assert type(from_status(code, body)) is expected


def test_a_foreign_body_is_quoted_but_not_whole():
    assert len(from_status(502, b"x" * 100_000).message) == 256


@given(st.integers(0, 599), st.binary(max_size=60))
def test_no_body_crashes_the_reader(code, body):
    assert from_status(code, body).message


def test_retry_after_is_zero_when_nobody_says():
    assert from_status(429, b"").retry_after == 0


def test_retry_after_comes_from_the_details():
    assert from_status(429, b'{"details":{"retryAfterSeconds":7}}').retry_after == 7
