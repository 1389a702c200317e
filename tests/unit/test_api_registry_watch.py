"""Watching: what each watcher sees, where it can go on, and when it is told to start over."""

import itertools
import json

import pytest

from api.negotiation import Shape
from api.renderings import rendering
from api.selection import Selection
from api.store.sqlite import SqliteStore
from api.watch.stream import Stream, Terms
from api.watch.topic import Topic
from kube.errors import Gone
from kube.resources import NAMESPACES
from kube.selectors import parse_fields, parse_labels
from tests import widgets
from tests.widgets import WIDGETS, WidgetStrategy, widget


class Script:
    """A waiter that lets one step of a story happen each time the stream waits; the client leaves at the end."""

    def __init__(self, *steps):
        self._steps = list(steps)
        self.waits = []

    def wake(self):
        pass

    def wait(self, seconds):
        self.waits.append(seconds)
        if not self._steps:
            return False
        self._steps.pop(0)()
        return True


class Clock:
    """Time that passes only when told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def pass_(self, seconds):
        self.now += seconds


@pytest.fixture
def registry():
    return widgets.registry()


def watch(registry, *steps, **terms):
    """What a client reads, event by event, while the steps happen."""
    return watch_with(Script(*steps), registry, **terms)


def watch_with(waiter, registry, *, selection=None, start=None, clock=None, **terms):
    topic = registry.topic(WIDGETS)
    chosen = {"seconds": 3600.0, "bookmarks": False, "initial_events_end": False} | terms
    asked = Terms(selection=selection or Selection(), start=start, **chosen)
    shape = rendering(topic, Shape.OBJECT, "Metadata", lambda: None)
    stream = Stream(topic, asked, shape, waiter, clock or Clock())
    return [json.loads(line) for line in b"".join(stream.chunks()).splitlines()]


def seen(events):
    return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


def test_a_watch_from_nothing_begins_with_what_is_there(registry):
    registry.create(WIDGETS, "home", widget("a"))

    assert seen(watch(registry, lambda: registry.create(WIDGETS, "home", widget("b")))) == [
        ("ADDED", "a"),
        ("ADDED", "b"),
    ]


def test_a_watch_from_a_revision_sees_every_change_after_it(registry):
    start = int(registry.create(WIDGETS, "home", widget("a"))["metadata"]["resourceVersion"])
    registry.patch(WIDGETS, "home", "a", {"spec": {"colour": "red"}})
    registry.delete(WIDGETS, "home", "a")
    events = watch(registry, lambda: registry.create(WIDGETS, "home", widget("a")), start=start)

    assert seen(events) == [("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "a")]


def test_events_carry_revisions_a_watch_can_go_on_from(registry):
    start = registry.hub.revision
    steps = [
        lambda: registry.create(WIDGETS, "home", widget("a")),
        lambda: registry.patch(WIDGETS, "home", "a", {"spec": {"colour": "red"}}),
        lambda: registry.delete(WIDGETS, "home", "a"),
        lambda: registry.create(WIDGETS, "home", widget("b")),
    ]
    events = watch(registry, *steps, start=start)
    for skipped, event in enumerate(events, start=1):
        revision = int(event["object"]["metadata"]["resourceVersion"])
        assert watch(registry, start=revision) == events[skipped:]


def test_a_deleted_object_is_sent_as_it_was_at_the_revision_of_its_end(registry):
    registry.create(WIDGETS, "home", widget("a", colour="red"))
    start = registry.hub.revision
    (event,) = watch(registry, lambda: registry.delete(WIDGETS, "home", "a"), start=start)

    assert event["object"]["spec"]["colour"] == "red"
    assert event["object"]["metadata"]["resourceVersion"] == str(start + 1)


def test_an_object_that_stops_matching_is_deleted_for_this_watcher(registry):
    registry.create(WIDGETS, "home", widget("a", colour="red"))
    events = watch(
        registry,
        lambda: registry.patch(WIDGETS, "home", "a", {"spec": {"colour": "blue"}}),
        lambda: registry.patch(WIDGETS, "home", "a", {"metadata": {"labels": {"still": "blue"}}}),
        lambda: registry.patch(WIDGETS, "home", "a", {"spec": {"colour": "red"}}),
        selection=Selection(fields=parse_fields("spec.colour=red")),
    )

    assert seen(events) == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")]
    assert events[1]["object"]["spec"]["colour"] == "red"


def test_watchers_of_a_namespace_or_a_label_see_only_those(registry):
    registry.create(NAMESPACES, None, {"metadata": {"name": "other"}})
    labelled = widget("l")
    labelled["metadata"]["labels"] = {"app": "x"}

    def story():
        return [
            lambda: registry.create(WIDGETS, "home", widget("a")),
            lambda: registry.create(WIDGETS, "other", widget("b")),
            lambda: registry.create(WIDGETS, "other", labelled),
        ]

    selection = Selection(namespace="other", labels=parse_labels("app in (x)"))
    assert seen(watch(registry, *story(), selection=selection)) == [("ADDED", "l")]


def test_a_bookmark_brings_an_idle_watcher_up_to_date(registry):
    clock = Clock()
    registry.create(WIDGETS, "home", widget("a"))
    start = registry.hub.revision

    def elsewhere():
        registry.create(NAMESPACES, None, {"metadata": {"name": "other"}})
        clock.pass_(61)

    (bookmark,) = watch(registry, elsewhere, start=start, clock=clock, bookmarks=True)
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"] == {
        "kind": "Widget",
        "apiVersion": "test.podwire/v1",
        "metadata": {"resourceVersion": str(start + 1)},
    }


def test_initial_events_end_with_a_marked_bookmark(registry):
    registry.create(WIDGETS, "home", widget("a"))
    events = watch(registry, bookmarks=True, initial_events_end=True)

    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_watch_of_tables_repeats_rows_but_not_columns(registry):
    registry.create(WIDGETS, "home", widget("a"))
    topic = registry.topic(WIDGETS)
    shape = rendering(topic, Shape.TABLE, "None", lambda: None)
    first, second = (json.loads(shape.event("ADDED", topic.get("home", "a")))["object"] for _ in range(2))

    assert first["rows"] == second["rows"] == [{"cells": ["a", "grey", 0]}]
    assert len(first["columnDefinitions"]) == 3
    assert second["columnDefinitions"] is None


def test_a_watch_ends_after_its_time_with_a_last_bookmark(registry):
    clock = Clock()
    events = watch(registry, lambda: clock.pass_(11), clock=clock, seconds=10.0, bookmarks=True)

    assert [event["type"] for event in events] == ["BOOKMARK"]


def test_an_old_watch_without_bookmarks_still_waits_for_its_end_and_not_in_a_circle(registry):
    clock = Clock()
    script = Script(lambda: clock.pass_(61), lambda: clock.pass_(61))

    assert watch_with(script, registry, clock=clock, seconds=600.0) == []
    assert script.waits == [600.0, 539.0, 478.0]


def test_a_watch_ends_when_the_server_stops(registry):
    steps = [lambda: registry.create(WIDGETS, "home", widget("a")), registry.close]
    never = [lambda: registry.create(WIDGETS, "home", widget("too late"))]

    assert seen(watch(registry, *steps, *never)) == [("ADDED", "a")]


def test_a_revision_from_the_future_is_gone_so_that_the_client_starts_over(registry):
    with pytest.raises(Gone, match="unknown resource version"):
        watch(registry, start=registry.hub.revision + 1)


def forgetful(history):
    """A registry whose kinds remember that many changes."""
    registry = widgets.registry()
    topic = Topic(WidgetStrategy(), history=history)
    topic.seed((), registry.hub.revision)
    registry.hub.topics = {**registry.hub.topics, WIDGETS: topic}
    return registry


def test_a_revision_before_the_memory_is_gone():
    registry = forgetful(5)
    start = registry.hub.revision
    for _ in range(20):
        registry.create(WIDGETS, "home", widget())

    with pytest.raises(Gone, match="too old resource version"):
        watch(registry, start=start)
    assert len(watch(registry, start=registry.hub.revision - 5)) == 5


def test_a_watcher_that_falls_behind_is_told_once_and_left():
    registry = forgetful(5)

    def storm():
        for _ in range(20):
            registry.create(WIDGETS, "home", widget())

    (event,) = watch(registry, storm, start=registry.hub.revision)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_a_watch_goes_on_across_a_restart(tmp_path):
    store = SqliteStore(tmp_path / "store.db")
    first = widgets.registry(store)
    start = first.hub.revision
    first.create(WIDGETS, "home", widget("a", colour="red"))
    first.patch(WIDGETS, "home", "a", {"spec": {"colour": "blue"}})
    first.delete(WIDGETS, "home", "a")
    before = watch(first, start=start)
    store.close()

    again = widgets.registry(SqliteStore(tmp_path / "store.db"))
    assert watch(again, start=start) == before
    assert seen(before) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_after_compaction_a_restart_knows_the_objects_but_not_the_old_changes(tmp_path):
    store = SqliteStore(tmp_path / "store.db", kept=10)
    first = widgets.registry(store)
    first.create(WIDGETS, "home", widget("old"))
    for number in range(40):
        first.patch(WIDGETS, "home", "old", {"spec": {"colour": f"c{number}"}})
    store.close()

    again = widgets.registry(SqliteStore(tmp_path / "store.db", kept=10))
    assert again.get(WIDGETS, "home", "old")["spec"]["colour"] == "c39"
    with pytest.raises(Gone):
        watch(again, start=1)


def test_a_list_at_an_older_revision_is_what_it_was_then(registry):
    topic = registry.topic(WIDGETS)
    cuts = {}
    for number in itertools.chain(range(8), range(3)):
        name = f"w{number}"
        if topic.get("home", name) is None:
            registry.create(WIDGETS, "home", widget(name))
        else:
            registry.delete(WIDGETS, "home", name)
        registry.patch(WIDGETS, "home", "w7" if topic.get("home", "w7") else "w0", {"spec": {"colour": f"c{number}"}})
        cuts[registry.hub.revision] = topic.cut().items

    assert {revision: topic.cut_at(revision).items for revision in cuts} == cuts
