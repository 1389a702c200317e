"""From the time the author of a change noted until the round that follows it has ended."""

import msgspec
import pytest

from proxy.metrics import Metrics
from proxy.programming_latency import TRIGGER_TIME, ProgrammingLatency
from tests.services import endpoint_slice, named

NOON = 1_800_000_000.0
AT_NOON, LATER, EARLIER = "2027-01-15T08:00:00Z", "2027-01-15T08:00:05.5Z", "2027-01-15T07:59:59Z"
WEB = named("web")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def clock() -> list[float]:
    return [NOON]


@pytest.fixture
def latency(metrics, clock) -> ProgrammingLatency:
    return ProgrammingLatency(metrics.programming.labels("IPv4"), clock=lambda: clock[0])


def changed(text: str | None):
    given = endpoint_slice("web", ["10.244.0.2"])
    annotations = None if text is None else {TRIGGER_TIME: text}
    return msgspec.structs.replace(given, metadata=msgspec.structs.replace(given.metadata, annotations=annotations))


def measured(metrics: Metrics, what: str) -> float | None:
    name = f"kubeproxy_network_programming_duration_seconds_{what}"
    return metrics.registry.get_sample_value(name, {"ip_family": "IPv4"})


def test_a_change_is_measured_when_its_round_has_ended(latency, metrics, clock):
    latency.on_endpoint_slice(None, changed(AT_NOON))
    latency.on_endpoint_slice(changed(AT_NOON), changed(LATER))
    latency.taken({WEB})
    clock[0] = NOON + 8
    latency.applied({WEB})

    assert (measured(metrics, "count"), measured(metrics, "sum")) == (2, 8 + 2.5)


@pytest.mark.parametrize("text", [EARLIER, None, "", "yesterday", "2027-01-15T08:00:00"])
def test_what_was_before_the_proxy_or_says_nothing_is_not_measured(latency, metrics, text):
    latency.on_endpoint_slice(None, changed(text))
    latency.taken({WEB})
    latency.applied({WEB})

    assert measured(metrics, "count") == 0


def test_a_slice_that_comes_again_is_measured_once(latency, metrics):
    latency.on_endpoint_slice(None, changed(AT_NOON))
    latency.on_endpoint_slice(changed(AT_NOON), changed(AT_NOON))
    latency.on_endpoint_slice(changed(AT_NOON), None)
    latency.taken({WEB})
    latency.applied({WEB})

    assert measured(metrics, "count") == 1


def test_a_change_during_a_round_belongs_to_the_next(latency, metrics):
    latency.taken({WEB})
    latency.on_endpoint_slice(None, changed(AT_NOON))
    latency.applied({WEB})

    assert measured(metrics, "count") == 0


def test_a_round_that_fails_goes_on_in_the_next(latency, metrics, clock):
    latency.on_endpoint_slice(None, changed(AT_NOON))
    latency.taken({WEB})
    latency.applied(set())
    clock[0] = NOON + 3
    latency.taken({WEB})
    latency.applied({WEB})

    assert measured(metrics, "sum") == 3
