"""What probes are told, by time and by what became of changes; and the HTTP server that tells them."""

import http.client
import json
import socket
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import pytest

from kube import objects
from proxy.health import TO_BE_DELETED, Health, HealthPages, is_eligible
from proxy.http_server import JSON, NOT_FOUND, Answer, HttpServer, PersistentServer
from proxy.metrics import Metrics
from tests.waiting import eventually

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class Told:
    """Health of both families on a clock moved by hand; the first round is over."""

    def __init__(self) -> None:
        self.now = START
        self.health = Health(("IPv4", "IPv6"), clock=lambda: self.now)
        self.health.node_is(node())
        self.metrics = Metrics()
        self.pages = HealthPages(self.health, self.metrics)

    def synced(self) -> "Told":
        for family in ("IPv4", "IPv6"):
            self.health.taken(family)
            self.health.applied(family)
        return self

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def status(self, path: str) -> int:
        return self.pages(path).status.value

    def body(self, path: str) -> dict:
        return json.loads(self.pages(path).body)


def node(*taints: str, **metadata: object) -> objects.Node:
    spec = objects.NodeSpec(taints=tuple(objects.Taint(key=key) for key in taints))
    return objects.Node(metadata=objects.ObjectMeta(name="node1", **metadata), spec=spec)


@pytest.fixture
def told() -> Told:
    return Told()


def test_the_body_of_healthz_is_kube_proxys(told):
    told.synced().later(5)

    assert told.pages("/healthz").body.decode() == (
        '{"lastUpdated":"2026-01-01T12:00:05Z","currentTime":"2026-01-01T12:00:05Z","nodeEligible":true,"healthy":true,'
        '"status":{"IPv4":{"lastUpdated":"2026-01-01T12:00:00Z","healthy":true},'
        '"IPv6":{"lastUpdated":"2026-01-01T12:00:00Z","healthy":true}}}'
    )


def test_the_body_of_livez_says_nothing_of_the_node(told):
    assert list(told.synced().body("/livez")) == ["lastUpdated", "currentTime", "healthy", "status"]


@pytest.mark.parametrize(("seconds", "status"), [(60, 200), (60.1, 503)])
@pytest.mark.parametrize("path", ["/healthz", "/livez"])
def test_a_change_may_wait_for_a_minute(told, path, seconds, status):
    told.synced().health.queued("IPv4")
    told.later(seconds)

    assert told.status(path) == status


def test_an_idle_proxy_stays_healthy(told):
    told.synced().later(100_000)

    assert told.status("/healthz") == 200


def test_one_family_that_is_late_is_enough_and_named(told):
    told.synced().health.queued("IPv6")
    told.later(61)

    status = told.body("/healthz")["status"]
    assert (status["IPv4"]["healthy"], status["IPv6"]["healthy"]) == (True, False)


def test_the_oldest_change_counts_not_the_latest(told):
    told.synced().health.queued("IPv4")
    told.later(40)
    told.health.queued("IPv4")
    told.later(21)

    assert told.status("/livez") == 503


def test_a_change_that_came_during_a_round_still_waits_after_it(told):
    told.synced().health.queued("IPv4")
    told.health.taken("IPv4")
    told.later(30)
    told.health.queued("IPv4")
    told.health.applied("IPv4")
    told.later(59)
    assert told.status("/livez") == 200
    told.later(2)

    assert told.status("/livez") == 503


def test_a_round_that_never_ends_is_unhealthy(told):
    told.synced().health.queued("IPv4")
    told.health.taken("IPv4")
    told.later(61)

    assert told.status("/livez") == 503


def test_rounds_that_fail_as_a_whole_are_unhealthy_until_one_succeeds(told):
    told.synced()
    for _ in range(3):
        told.health.taken("IPv4")
        told.health.failed("IPv4")
        told.later(30)
    assert told.status("/healthz") == 503
    told.health.taken("IPv4")
    told.health.applied("IPv4")

    assert told.status("/healthz") == 200


def test_before_its_first_round_it_is_alive_but_wants_no_traffic(told):
    assert (told.status("/livez"), told.status("/healthz")) == (200, 503)
    told.later(61)
    assert told.status("/livez") == 503
    assert told.body("/livez")["lastUpdated"] == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "gone", [None, node(TO_BE_DELETED), node(deletion_timestamp=START)], ids=["unknown", "tainted", "being deleted"]
)
def test_a_node_that_goes_is_alive_but_not_eligible(told, gone):
    told.synced().health.node_is(gone)

    assert (told.status("/livez"), told.status("/healthz")) == (200, 503)
    assert told.body("/healthz")["nodeEligible"] is False
    assert told.body("/healthz")["healthy"] is True


def test_other_taints_do_not_matter():
    assert is_eligible(node("node.kubernetes.io/unreachable"))


def test_asking_is_counted_by_answer(told):
    told.status("/healthz")
    told.synced().status("/healthz")
    told.status("/livez")

    exposed = told.metrics.expose().decode()
    assert 'kubeproxy_proxy_healthz_total{code="503"} 1.0' in exposed
    assert 'kubeproxy_proxy_healthz_total{code="200"} 1.0' in exposed
    assert 'kubeproxy_proxy_livez_total{code="200"} 1.0' in exposed


def test_other_paths_are_not_found(told):
    assert told.pages("/") is NOT_FOUND


# --- over HTTP


@pytest.fixture
def serve(request):
    def start(respond, host: str = "127.0.0.1") -> int:
        server = HttpServer((host, 0), respond)
        server.start()
        request.addfinalizer(server.stop)
        return server.port

    return start


def get(port: int, path: str = "/", *, method: str = "GET", host: str = "127.0.0.1"):
    connection = http.client.HTTPConnection(host, port, timeout=60)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer, answer.read()


def test_an_answer_goes_over_http_with_its_headers(serve):
    port = serve(lambda path: Answer(HTTPStatus.OK, path.encode(), JSON, {"X-Weight": "3"}))
    answer, body = get(port, "/a?b=c")

    assert (answer.status, body) == (200, b"/a")
    assert answer.headers["Content-Type"] == JSON
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Weight"] == "3"


def test_a_head_request_gets_no_body(serve):
    answer, body = get(serve(lambda _: Answer(HTTPStatus.OK, b"four")), method="HEAD")

    assert (answer.headers["Content-Length"], body) == ("4", b"")


def test_a_page_that_cannot_be_made_is_an_error_and_the_server_goes_on(serve):
    def respond(path: str) -> Answer:
        return Answer(HTTPStatus.OK, {"/good": b"ok"}[path])

    port = serve(respond)

    assert get(port, "/bad")[0].status == 500
    assert get(port, "/good")[1] == b"ok"


def test_silent_and_rude_clients_hold_up_nobody(serve):
    port = serve(lambda _: Answer(HTTPStatus.OK, b"ok"))
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    rude = socket.create_connection(("127.0.0.1", port))
    rude.sendall(b"\0\xff garbage\r\n\r\n")
    rude.close()

    assert get(port)[1] == b"ok"
    for opened in silent:
        opened.close()


def test_ipv6_is_served(serve):
    assert get(serve(lambda _: Answer(HTTPStatus.OK, b"six"), "::1"), host="::1")[1] == b"six"


def test_a_taken_address_is_tried_again_until_it_is_free(monkeypatch):
    monkeypatch.setattr("proxy.http_server.RETRY_SECONDS", 0.02)
    told: list[str] = []
    holder = socket.create_server(("127.0.0.1", 0))
    port = holder.getsockname()[1]
    server = PersistentServer(
        "metrics", ("127.0.0.1", port), lambda _: Answer(HTTPStatus.OK, b"mine"), tell=told.append
    )
    server.start()
    holder.close()

    def body() -> bytes:
        try:
            return get(port)[1]
        except OSError:
            return b""

    assert eventually(body) == b"mine"
    assert told[0] == f"metrics on 127.0.0.1:{port} is not served: Address already in use"
    server.stop()


def test_a_taken_address_is_an_error_when_it_must_be_had():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        server = PersistentServer("metrics", holder.getsockname(), lambda _: NOT_FOUND, tell=print)
        with pytest.raises(OSError):
            server.start(must_bind=True)
        server.stop()
