"""What the annotation of a Service says about connections of endpoints that are gone."""

import pytest

from proxy import answering
from tests.services import endpoint_slice, service


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", None), ("keep", None), ("reset", 0), ("drain=30s", 30), ("drain=1h30m", 5400), ("drain=168h", 604800)],
)
def test_the_annotation_is_read(text, seconds):
    assert answering.drain_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["Reset", "drain", "drain=", "drain=30", "drain=-1s", "drain=169h", "drain=1e9s", "\0"]
)
def test_what_it_cannot_mean_is_said_and_connections_are_kept(text):
    given = service(on_removal=text)

    assert f"metadata.annotations[podwire.dev/on-endpoint-removal] {text!r}: must be keep" in answering.complaint(given)
    assert answering.keeps(given)


def test_only_connections_that_somebody_looks_after_are_listed():
    slices = [endpoint_slice("web", ["10.244.0.2"])]

    assert answering.fronts(service(), slices, "IPv4") == {}
    assert len(answering.fronts(service(on_removal="reset"), slices, "IPv4")) == 1
