"""The list+watch machine, driven by hand: no server, no clock, no chance."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.backoff import Backoff
from kube.cache import Cache
from kube.errors import Gone, ServiceUnavailable, TooManyRequests, Unauthorized, Unreachable, from_status
from kube.events import EventDecoder, Key, Put, Remove, Replace, Unreadable
from kube.objects import Service
from kube.reflector import BACKOFF, SHORT_WATCH, ListRequest, Moment, Reflector, Wait, WatchRequest

AWAY = Unreachable("https://10.0.0.1:6443", "[Errno 111] Connection refused")
EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}


def obj(name: str, version: int, **spec: object) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "resourceVersion": str(version)}, "spec": spec}


def page(*objects: dict[str, Any], version: int = 10, position: str = "") -> bytes:
    meta = {"resourceVersion": str(version), "continue": position}
    return json.dumps({"metadata": meta, "items": objects or None}).encode()


def line(kind: str, content: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": content}).encode()


def bookmark(version: int) -> bytes:
    return line("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


class Driver:
    """A reflector and a clock that only the test moves."""

    def __init__(self) -> None:
        self.skipped: list[Unreadable] = []
        self.reflector = Reflector(EventDecoder(Service, self.skipped.append))
        self.now = 1000.0

    @property
    def at(self) -> Moment:
        return Moment(self.now, 0.0)

    def next(self) -> ListRequest | WatchRequest | Wait:
        return self.reflector.next(self.at)

    def page(self, body: bytes) -> Replace[Service] | None:
        return self.reflector.on_page(body, self.at)

    def line(self, content: bytes) -> Put[Service] | Remove | None:
        return self.reflector.on_line(content, self.at)

    def fail(self, error: Exception) -> ListRequest | WatchRequest | Wait:
        self.reflector.on_failure(error, self.at)
        return self.next()

    def end(self) -> ListRequest | WatchRequest | Wait:
        self.reflector.on_end(self.at)
        return self.next()

    def open(self) -> None:
        assert isinstance(self.next(), WatchRequest)
        self.reflector.on_open(self.at)

    def wait_over(self) -> ListRequest | WatchRequest | Wait:
        while isinstance(step := self.next(), Wait):
            self.now += step.seconds
        return step


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def watching(driver: Driver) -> Driver:
    driver.page(page(version=10))
    driver.open()
    return driver


# --- list


def test_it_begins_with_a_list_of_the_newest_state(driver):
    assert driver.next() == ListRequest({"limit": "500"})


def test_the_last_page_replaces_everything_at_once(driver):
    assert driver.page(page(obj("a", 1), position="next")) is None
    replacement = driver.page(page(obj("b", 2)))
    assert [service.metadata.name for service in replacement.objects] == ["a", "b"]


def test_the_next_page_is_asked_for_with_its_position(driver):
    driver.page(page(obj("a", 1), position="next"))
    assert driver.next() == ListRequest({"limit": "500", "continue": "next"})


def test_the_watch_begins_where_the_first_page_was(driver):
    driver.page(page(obj("a", 1), version=10, position="next"))
    driver.page(page(obj("b", 2), version=12))
    assert driver.next().query["resourceVersion"] == "10"


def test_a_position_that_expired_leads_to_one_list_without_pages(driver):
    driver.page(page(obj("a", 1), position="next"))
    assert driver.fail(Gone("the continue token is too old")) == ListRequest({})


def test_pages_before_an_expired_position_are_forgotten(driver):
    driver.page(page(obj("deleted meanwhile", 1), position="next"))
    driver.fail(Gone("the continue token is too old"))
    assert driver.page(page(obj("b", 2))).objects[0].metadata.name == "b"


def test_pages_survive_a_server_that_was_away(driver):
    driver.page(page(obj("a", 1), position="next"))
    driver.fail(AWAY)
    assert driver.wait_over() == ListRequest({"limit": "500", "continue": "next"})
    assert len(driver.page(page(obj("b", 2))).objects) == 2


def test_a_position_that_leads_to_itself_is_not_followed_for_ever(driver):
    driver.page(page(obj("a", 1), position="next"))
    driver.page(page(obj("b", 2), position="next"))
    assert isinstance(driver.next(), Wait)
    assert driver.wait_over() == ListRequest({"limit": "500"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"metadata":{"resourceVersion":"7"},"items":[{"meta',
        b"<html>login</html>",
        b"\xff\xfe",
        page(version=0)[:-1],
    ],
    ids=["nothing", "cut off", "not ours", "not text", "one byte short"],
)
def test_a_list_that_cannot_be_read_is_asked_for_again(driver, body):
    assert driver.page(body) is None
    assert isinstance(driver.next(), Wait)
    assert driver.wait_over() == ListRequest({"limit": "500"})


def test_a_list_without_a_version_cannot_be_watched_from(driver):
    assert driver.page(b'{"metadata":{"resourceVersion":""},"items":[]}') is None


def test_an_item_that_cannot_be_read_is_named_and_the_others_arrive(driver):
    replacement = driver.page(page(obj("bad", 1, ports=7), obj("good", 2)))
    assert [service.metadata.name for service in replacement.objects] == ["good"]
    assert replacement.unreadable == {Key("default", "bad")}
    assert driver.skipped[0].key == Key("default", "bad")
    assert "$.spec.ports" in driver.skipped[0].reason


def test_an_item_without_a_name_is_reported_too(driver):
    assert driver.page(page({"spec": {}})).objects == ()
    assert driver.skipped[0].key is None


# --- watch


def test_the_watch_asks_for_bookmarks_and_for_an_end(driver):
    driver.page(page(version=10))
    assert driver.next() == WatchRequest(
        {"resourceVersion": "10", "allowWatchBookmarks": "true", "timeoutSeconds": "300"}
    )


def test_chance_makes_watches_last_up_to_twice_as_long(driver):
    driver.page(page(version=10))
    assert driver.reflector.next(Moment(driver.now, 0.5)).query["timeoutSeconds"] == "450"


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED"])
def test_added_and_modified_put_the_object(watching, kind):
    change = watching.line(line(kind, obj("web", 11, clusterIP="10.96.0.7")))
    assert change.obj.spec.cluster_ip == "10.96.0.7"


def test_deleted_removes_the_key(watching):
    assert watching.line(line("DELETED", obj("web", 11))) == Remove(Key("default", "web"))


def test_deleted_needs_no_readable_object(watching):
    assert watching.line(line("DELETED", obj("web", 11, ports="eighty"))) == Remove(Key("default", "web"))


@pytest.mark.parametrize(
    "content",
    [
        line("ADDED", obj("web", 11)),
        line("ADDED", obj("web", 11, ports=7)),
        line("DELETED", obj("web", 11)),
        bookmark(11),
    ],
    ids=["object", "unreadable object", "deletion", "bookmark"],
)
def test_the_next_watch_goes_on_after_the_last_line(watching, content):
    watching.line(content)
    assert watching.end().query["resourceVersion"] == "11"


def test_a_type_of_event_from_the_future_is_skipped(watching):
    assert watching.line(line("MOVED", obj("web", 11))) is None
    assert watching.reflector.watching
    assert "MOVED" in watching.skipped[0].reason


def test_a_watch_that_ends_on_time_is_followed_by_the_next(watching):
    watching.now += 300
    assert isinstance(watching.end(), WatchRequest)


def test_a_watch_that_ends_at_once_leads_to_a_list_after_a_wait(watching):
    assert watching.end() == Wait(BACKOFF.first)
    assert isinstance(watching.wait_over(), ListRequest)


def test_a_server_whose_watches_always_end_at_once_is_asked_less_and_less(driver):
    waits = []
    for _ in range(8):
        driver.page(page(version=10))
        driver.open()
        waits.append(driver.end().seconds)
        driver.wait_over()
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_line_that_cannot_be_read_ends_the_watch_and_leads_to_a_list(watching):
    assert watching.line(b'{"type":"ADDED","object":{"metad') is None
    assert not watching.reflector.watching
    assert isinstance(watching.wait_over(), ListRequest)


@given(st.binary(max_size=80) | st.sampled_from(["ADDED", "DELETED", "BOOKMARK", "ERROR", "x"]).flatmap(
    lambda kind: st.builds(lambda content: line(kind, content), st.dictionaries(st.text(max_size=9), st.text(max_size=9)))
))  # fmt: skip
def test_no_line_crashes_the_machine(content):
    driver = Driver()
    driver.page(page(version=10))
    driver.open()
    driver.line(content)
    assert driver.wait_over()


# --- the version is gone, or from another time


def test_gone_on_opening_a_watch_leads_to_a_list_at_once(driver):
    driver.page(page(version=10))
    assert isinstance(driver.fail(Gone("too old resource version")), ListRequest)


def test_gone_in_the_middle_of_a_watch_leads_to_a_list_at_once(watching):
    watching.now += 60
    watching.line(line("ERROR", EXPIRED))
    assert not watching.reflector.watching
    assert isinstance(watching.next(), ListRequest)


def test_a_server_that_came_back_without_its_past_is_listed_at_once(driver):
    driver.page(page(version=10))
    driver.fail(AWAY)
    driver.fail(AWAY)
    driver.wait_over()
    assert isinstance(driver.fail(Gone("too old resource version")), ListRequest)


def test_what_went_wrong_before_a_long_watch_does_not_delay_the_list_after_it(watching):
    for _ in range(3):
        watching.fail(Gone("too old resource version"))
        watching.wait_over()
        watching.page(page(version=10))
        watching.open()
    watching.now += 60
    watching.line(line("ERROR", EXPIRED))
    assert isinstance(watching.next(), ListRequest)


def test_gone_after_gone_is_waited_for(driver):
    driver.page(page(version=10))
    driver.fail(Gone("too old resource version"))
    driver.page(page(version=10))
    assert isinstance(driver.fail(Gone("too old resource version")), Wait)


def test_an_error_event_of_another_reason_leads_to_a_list(watching):
    watching.line(line("ERROR", {"kind": "Status", "code": 500, "reason": "InternalError", "message": "decode"}))
    assert isinstance(watching.wait_over(), ListRequest)


def test_a_version_the_server_has_not_reached_leads_to_a_list(driver):
    driver.page(page(version=10))
    too_large = {"code": 504, "reason": "Timeout", "message": "Too large resource version: 10, current: 3"}
    driver.fail(from_status(504, json.dumps(too_large).encode()))
    assert isinstance(driver.wait_over(), ListRequest)


@pytest.mark.parametrize("content", [line("ADDED", obj("web", 3)), bookmark(3)], ids=["event", "bookmark"])
def test_a_version_that_went_back_leads_to_a_list(watching, content):
    assert watching.line(content) is None
    assert not watching.reflector.watching
    assert isinstance(watching.wait_over(), ListRequest)


def test_a_list_older_than_what_we_had_is_believed(watching):
    watching.line(bookmark(3))
    watching.wait_over()
    assert watching.page(page(obj("restored", 2), version=3)).objects
    assert watching.next().query["resourceVersion"] == "3"


# --- the server is away


@pytest.mark.parametrize(
    "error",
    [AWAY, ServiceUnavailable("starting"), TooManyRequests("slow down"), Unauthorized("token expired")],
    ids=lambda error: type(error).__name__,
)
def test_a_passing_failure_goes_on_watching_from_the_same_place(driver, error):
    driver.page(page(version=10))
    assert isinstance(driver.fail(error), Wait)
    assert driver.wait_over().query["resourceVersion"] == "10"


def test_a_stream_that_breaks_after_it_told_something_goes_on(watching):
    watching.line(bookmark(11))
    watching.fail(AWAY)
    assert watching.wait_over().query["resourceVersion"] == "11"


def test_a_stream_that_breaks_right_after_opening_leads_to_a_list(watching):
    watching.fail(AWAY)
    assert isinstance(watching.wait_over(), ListRequest)


def test_waits_double_to_ten_seconds_and_never_end(driver):
    waits = []
    for _ in range(200):
        waits.append(driver.fail(AWAY).seconds)
        driver.wait_over()
    assert waits[:7] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0]
    assert waits[-1] == 10.0


def test_what_went_wrong_is_forgotten_after_a_watch_that_lasted(watching):
    for _ in range(5):
        watching.fail(AWAY)
    watching.wait_over()
    watching.page(page(version=10))
    watching.open()
    watching.now += SHORT_WATCH
    watching.end()
    assert watching.reflector.failures == 0


def test_a_wait_says_what_went_wrong(driver):
    assert driver.fail(AWAY).reason is AWAY


@pytest.mark.parametrize(("asked", "seconds"), [(7, 7), (86400, 60)], ids=["believed", "within reason"])
def test_a_server_that_asks_for_time_gets_it(driver, asked, seconds):
    body = json.dumps({"code": 429, "reason": "TooManyRequests", "details": {"retryAfterSeconds": asked}}).encode()
    assert driver.fail(from_status(429, body)).seconds == seconds


# --- backoff


@given(st.integers(0, 10**9), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_between_half_and_all_of_its_step(failures, jitter):
    backoff = Backoff(first=0.25, longest=10.0)
    full = backoff.delay(failures)
    assert full / 2 <= backoff.delay(failures, jitter) <= full <= 10.0


# --- the law


class World:
    """A server as the machine sees it: a history, a list, and a window of events it remembers."""

    def __init__(self) -> None:
        self.version = 10
        self.objects: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[int, bytes]] = []
        self.oldest = 10

    def put(self, name: str) -> None:
        self.version += 1
        self.objects[name] = obj(name, self.version)
        self.events.append((self.version, line("MODIFIED", self.objects[name])))

    def remove(self, name: str) -> None:
        if self.objects.pop(name, None):
            self.version += 1
            self.events.append((self.version, line("DELETED", obj(name, self.version))))

    def forget(self, _name: str) -> None:
        self.oldest, self.events = self.version, []

    def restore(self, _name: str) -> None:
        """Come back from a backup: an older version, other objects.

        Nobody can see this any more when the version has passed the old one before the client comes back.
        """
        self.version, self.oldest, self.events = 5, 5, []
        self.objects = {"old": obj("old", 4)}

    def step(self, driver: Driver, cache: Cache[Service], fault: str) -> None:
        """Do one thing the machine asks for; `fault` may spoil it."""
        request = driver.wait_over()
        if fault == "away":
            driver.reflector.on_failure(AWAY, driver.at)
        elif isinstance(request, ListRequest):
            body = page(*self.objects.values(), version=self.version)
            if replacement := driver.page(body[: len(body) // 2] if fault == "cut" else body):
                cache.replace(replacement)
        else:
            self._watch(driver, cache, int(request.query["resourceVersion"]), fault)

    def _watch(self, driver: Driver, cache: Cache[Service], since: int, fault: str) -> None:
        if not self.oldest <= since <= self.version:
            driver.reflector.on_failure(Gone("too old or from the future"), driver.at)
            return
        driver.reflector.on_open(driver.at)
        for content in [content for version, content in self.events if version > since]:
            change = driver.line(content[:-3] if fault == "cut" else content)
            if not driver.reflector.watching:
                return
            if change is not None:
                cache.apply(change)
        driver.now += 300
        driver.reflector.on_end(driver.at)


HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "remove", "forget", "restore"]),
        st.sampled_from("abcd"),
        st.sampled_from(["", "", "away", "cut"]),
        st.integers(0, 2),
    ),
    max_size=40,
)


@given(HAPPENINGS)
def test_whatever_happens_the_copy_ends_up_equal(happenings):
    world, driver, cache = World(), Driver(), Cache[Service]()
    for action, name, fault, steps in happenings:
        getattr(world, action)(name)
        for _ in range(steps):
            world.step(driver, cache, fault)
        if action == "restore":
            world.step(driver, cache, "")
    for _ in range(4):
        world.step(driver, cache, "")
    copy = {key.name: service.metadata.resource_version for key, service in cache.snapshot().items()}
    assert copy == {name: content["metadata"]["resourceVersion"] for name, content in world.objects.items()}
