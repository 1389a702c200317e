"""An informer against a real HTTP server that dies, forgets, and talks nonsense."""

import json
import threading
from collections.abc import Iterator

import pytest
import structlog.testing

from kube.connection import Connection
from kube.http import Client
from kube.informer import Informer
from kube.objects import Service
from kube.resources import SERVICES
from tests.kube_server import KubeServer, kube_server, service
from tests.waiting import eventually

EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}


@pytest.fixture
def server() -> Iterator[KubeServer]:
    with kube_server() as server:
        yield server


@pytest.fixture
def informer(server: KubeServer) -> Iterator[Informer[Service]]:
    client = Client(Connection(server=server.url))
    informer = Informer(client, SERVICES, Service, label_selector="!service.kubernetes.io/service-proxy-name")
    yield informer
    informer.stop()
    client.close()


def names(informer: Informer[Service]) -> set[str]:
    return {key.name for key in informer.cache.snapshot()}


def start_synced(informer: Informer[Service]) -> None:
    informer.start()
    assert informer.cache.synced.wait(60)


def await_watch(server: KubeServer, count: int = 1) -> None:
    eventually(lambda: len(server.watches()) >= count)


def test_what_was_there_before_is_in_the_cache_when_it_is_synced(server, informer):
    server.put(service("web", clusterIP="10.96.0.7"))
    start_synced(informer)
    assert informer.cache.get("default", "web").spec.cluster_ip == "10.96.0.7"


def test_the_selector_reaches_the_server_on_list_and_on_watch(server, informer):
    start_synced(informer)
    await_watch(server)
    selectors = {query["labelSelector"] for query in server.lists() + server.watches()}
    assert selectors == {"!service.kubernetes.io/service-proxy-name"}


def test_a_collection_of_many_pages_is_complete(server, informer):
    for number in range(1203):
        server.put(service(f"web-{number}"))
    start_synced(informer)
    assert len(informer.cache) == 1203
    assert len(server.lists()) == 3


def test_changes_and_deletions_follow(server, informer):
    start_synced(informer)
    server.put(service("web", clusterIP="10.96.0.7"))
    eventually(lambda: informer.cache.get("default", "web"))
    server.put(service("web", clusterIP="10.96.0.8"))
    eventually(lambda: informer.cache.get("default", "web").spec.cluster_ip == "10.96.0.8")
    server.remove("web")
    eventually(lambda: not names(informer))


def test_a_killed_server_that_comes_back_is_watched_from_the_same_place(server, informer):
    start_synced(informer)
    await_watch(server)
    server.put(service("before"))
    eventually(lambda: names(informer) == {"before"})
    server.stop()
    server.put(service("during"))
    server.start()
    eventually(lambda: names(informer) == {"before", "during"})
    assert len(server.lists()) == 1


def test_a_deletion_that_nobody_saw_is_seen_after_410(server, informer):
    server.put(service("doomed"))
    server.put(service("kept"))
    start_synced(informer)
    await_watch(server)
    server.stop()
    server.remove("doomed")
    server.events.clear()
    server.answers.append((410, json.dumps(EXPIRED).encode()))
    server.start()
    eventually(lambda: names(informer) == {"kept"})


def test_an_error_event_leads_to_a_new_list(server, informer):
    start_synced(informer)
    await_watch(server)
    server.emit("ERROR", EXPIRED)
    await_watch(server, 2)
    assert len(server.lists()) == 2


def test_a_server_with_an_older_store_is_believed(server, informer):
    server.put(service("future"))
    start_synced(informer)
    await_watch(server)
    server.stop()
    server.objects.clear()
    server.events.clear()
    server.version = 3
    server.put(service("restored"))
    server.start()
    server.events[:] = [(1 << 60, line) for _, line in server.events]
    eventually(lambda: names(informer) == {"restored"})


def test_a_line_cut_off_in_the_middle_loses_nothing(server, informer):
    server.put(service("web"))
    server.stream_answers += [b'{"type":"MODIFIED","obj', b'{"type":"MODIFIED","object"\n{"type"']
    start_synced(informer)
    server.put(service("later"))
    eventually(lambda: names(informer) == {"web", "later"})


def test_watches_that_end_at_once_still_lead_to_what_is_true(server, informer):
    server.stream_answers += [b""] * 3
    start_synced(informer)
    server.put(service("web"))
    server.events.clear()
    eventually(lambda: names(informer) == {"web"})


def test_an_object_that_cannot_be_read_costs_only_itself(server, informer):
    server.put(service("web"))
    start_synced(informer)
    server.put({"metadata": {"name": "broken", "namespace": "default"}, "spec": {"ports": "eighty"}})
    server.put(service("next"))
    eventually(lambda: names(informer) == {"web", "next"})


def test_what_cannot_be_read_any_more_stays_as_it_was_known(server, informer):
    server.put(service("web", clusterIP="10.96.0.7"))
    start_synced(informer)
    await_watch(server)
    broken = service("web", ports="eighty")
    server.put(broken)
    server.emit("ERROR", EXPIRED)
    await_watch(server, 2)
    assert informer.cache.get("default", "web").spec.cluster_ip == "10.96.0.7"


def test_an_outage_after_a_long_unanswered_watch_is_the_first_failure(server, informer, monkeypatch):
    monkeypatch.setattr("kube.reflector.SHORT_WATCH", 0.0)
    server.holds_headers_back = True
    firsts, watched = [], 0
    with structlog.testing.capture_logs() as lines:
        start_synced(informer)
        for _ in range(3):
            await_watch(server, watched + 1)
            before = len(lines)
            server.stop()
            # It may try once more before the server is back.
            firsts.append(eventually(lambda since=before: [each for each in lines[since:] if "failures" in each])[0])
            watched = len(server.watches())
            server.start()
    assert [line["failures"] for line in firsts] == [1, 1, 1]


def test_a_server_that_is_not_there_yet_is_waited_for(server, informer):
    server.stop()
    informer.start()
    server.put(service("web"))
    server.start()
    eventually(lambda: names(informer) == {"web"})


def test_a_subscriber_that_raises_does_not_end_the_thread(server, informer):
    def fail_once(_old: object, _new: object, failed: list[bool] = []) -> None:  # noqa: B006 - remembers on purpose
        if not failed:
            failed.append(True)
            raise RuntimeError("a defect")

    informer.cache.subscribe(fail_once)
    server.put(service("web"))
    server.put(service("next"))
    start_synced(informer)
    assert names(informer) == {"web", "next"}


def test_stop_ends_the_thread_in_the_middle_of_a_silent_watch(server, informer):
    start_synced(informer)
    await_watch(server)
    informer.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "informer-services"]


def test_stop_before_start_is_harmless(informer):
    informer.stop()
