"""Events: what they look like, how often they are told, and that telling holds up nobody."""

from datetime import UTC, datetime

import pytest

from kube.errors import Forbidden, Unreachable
from kube.resources import NODES, SERVICES
from proxy.events import BURST, SAME_SECONDS, About, Event, Limit, Recorder, to_object
from proxy.trouble import on_node
from tests.waiting import eventually

BAD = Event(About(SERVICES, "shop", "web", "u1"), "InvalidService", "Service shop/web: spec.clusterIP 'x': must be …")


def numbered(number: int) -> Event:
    return BAD._replace(message=f"message {number}")


def test_an_event_is_about_its_object_and_says_who_tells_it():
    made = to_object(BAD, node="node1", now=datetime(2026, 1, 1, tzinfo=UTC), name_suffix="abc")

    assert made["metadata"] == {"name": "web.abc", "namespace": "shop"}
    assert made["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Service",
        "namespace": "shop",
        "name": "web",
        "uid": "u1",
    }
    assert (made["type"], made["reason"]) == ("Warning", "InvalidService")
    assert made["source"] == {"component": "podwire-proxy", "host": "node1"}
    assert made["firstTimestamp"] == made["lastTimestamp"] == "2026-01-01T00:00:00Z"


def test_an_event_on_the_node_is_where_kubectl_looks_for_it():
    event = on_node("node1", "Starting", "podwire-proxy starts", is_warning=False)
    made = to_object(event, node="node1", now=datetime.now(UTC), name_suffix="abc")

    assert made["metadata"]["namespace"] == "default"
    assert made["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": "node1"}
    assert (made["type"], event.about.resource) == ("Normal", NODES)


def test_a_message_fits_into_what_the_api_takes():
    long = BAD._replace(message="x" * 5000)

    assert len(to_object(long, node="n", now=datetime.now(UTC), name_suffix="")["message"]) == 1024


# --- how often


@pytest.mark.parametrize(("seconds", "again"), [(SAME_SECONDS - 1, False), (SAME_SECONDS, True)])
def test_the_same_is_told_once_in_a_while(seconds, again):
    limit = Limit()

    assert limit.admits(BAD, 0)
    assert limit.admits(BAD, seconds) is again


def test_another_message_on_the_same_object_is_told():
    limit = Limit()

    assert limit.admits(BAD, 0)
    assert limit.admits(numbered(1), 0)


def test_a_thousand_bad_objects_are_not_a_thousand_events():
    limit = Limit()
    admitted = [number for number in range(1000) if limit.admits(numbered(number), 0)]

    assert admitted == list(range(BURST))
    assert not limit.admits(numbered(1000), 5)
    assert limit.admits(numbered(1000), 10)


def test_what_was_not_admitted_may_still_be_told_later():
    limit = Limit()
    for number in range(BURST + 1):
        limit.admits(numbered(number), 0)

    assert limit.admits(numbered(BURST), 60)


# --- telling


class Server:
    """Takes events, after failing as told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.created: list[dict] = []

    def create(self, _resource, body, namespace=None) -> bytes:
        if self.failures:
            raise self.failures.pop(0)
        self.created.append(body)
        return b"{}"


@pytest.fixture
def record(request):
    def start(server: Server) -> Recorder:
        recorder = Recorder(server, node="node1")
        recorder.start()
        request.addfinalizer(recorder.stop)
        return recorder

    return start


def test_an_event_goes_to_the_server_once(record):
    server = Server()
    recorder = record(server)
    for _ in range(5):
        recorder.record(BAD)
    recorder.record(numbered(1))
    eventually(lambda: len(server.created) == 2)

    assert [made["message"] for made in server.created] == [BAD.message, "message 1"]


def test_an_event_outlasts_a_server_that_does_not_answer(record):
    server = Server(Unreachable("http://api", "not today"))
    record(server).record(BAD)

    assert eventually(lambda: server.created)


def test_a_server_that_refuses_events_is_logged_and_the_next_is_told(record, capsys):
    server = Server(Forbidden("events is forbidden"))
    recorder = record(server)
    recorder.record(BAD)
    recorder.record(numbered(1))
    eventually(lambda: server.created)

    assert [made["message"] for made in server.created] == ["message 1"]
    assert "an event was refused" in capsys.readouterr().out


def test_recording_never_waits_however_much_there_is_to_tell():
    recorder = Recorder(Server(), node="node1", clock=iter(range(0, 10**9, 1000)).__next__)
    for number in range(2000):  # nobody sends: the recorder was not started
        recorder.record(numbered(number))
