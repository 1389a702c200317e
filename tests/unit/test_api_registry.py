"""The registry: who wins, what is refused, and what holds together with what."""

import threading
from datetime import UTC, datetime

import pytest

from api.registry import Options, Registry
from api.store.sqlite import SqliteStore
from api.store.store import Entry, Guard, Write
from kube.errors import AlreadyExists, BadRequest, Conflict, Forbidden, Invalid, NotFound
from kube.resources import NAMESPACES
from kube.selectors import parse_fields, parse_labels
from tests import widgets
from tests.widgets import WIDGETS, widget

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def registry():
    return widgets.registry()


def names(objects):
    return [obj["metadata"]["name"] for obj in objects]


def test_a_new_object_gets_the_metadata_only_the_server_gives():
    registry = Registry(SqliteStore(":memory:"), (widgets.PlainStrategy(), widgets.WidgetStrategy()), now=lambda: NOW)
    made = registry.create(NAMESPACES, None, {"metadata": {"name": "a", "uid": "mine", "creationTimestamp": "mine"}})

    assert made["kind"] == "Namespace"
    assert made["metadata"]["creationTimestamp"] == "2030-01-02T03:04:05Z"
    assert len(made["metadata"]["uid"]) == 36
    assert made["metadata"]["resourceVersion"] == "1"
    assert made["metadata"]["generation"] == 1


def test_what_was_created_is_read_back_equal(registry):
    made = registry.create(WIDGETS, "home", widget("a", colour="red", deep={"list": [1, 2.5, None, "ü"]}))

    assert registry.get(WIDGETS, "home", "a") == made
    assert registry.list(WIDGETS) == [made]


def test_a_name_is_taken_once(registry):
    registry.create(WIDGETS, "home", widget("a"))

    with pytest.raises(AlreadyExists, match=r'widgets\.test\.podwire "a" already exists'):
        registry.create(WIDGETS, "home", widget("a"))


def test_a_generated_name_starts_with_its_prefix_and_is_new_each_time(registry):
    made = {
        registry.create(WIDGETS, "home", {"metadata": {"generateName": "gen-"}})["metadata"]["name"] for _ in range(20)
    }

    assert len(made) == 20
    assert all(name.startswith("gen-") and len(name) == 9 for name in made)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "must be a JSON object"),
        ({"kind": "Pod"}, "'Pod' cannot be written here"),
        ({"apiVersion": ["v1"]}, "apiVersion"),
        ({"metadata": "x"}, "metadata must be an object"),
        ({"metadata": {"name": 5}}, "metadata.name must be a string"),
        ({"metadata": {"name": "a", "namespace": "other"}}, "does not match the namespace"),
        ({"metadata": {"name": "a", "resourceVersion": "5"}}, "resourceVersion must not be set"),
    ],
)
def test_a_body_that_cannot_be_this_kind_is_a_bad_request(registry, body, words):
    with pytest.raises(BadRequest, match=words):
        registry.create(WIDGETS, "home", body)


def test_nesting_without_end_is_refused_before_it_is_stored(registry):
    deep = {}
    for _ in range(200):
        deep = {"a": [deep]}

    with pytest.raises(BadRequest, match="nested deeper than"):
        registry.create(WIDGETS, "home", widget("a", deep=deep))


def test_an_invalid_object_names_its_field(registry):
    with pytest.raises(Invalid) as failure:
        registry.create(WIDGETS, "home", widget("a", colour=""))

    assert [cause.field for cause in failure.value.causes] == ["spec.colour"]


def test_a_replace_over_an_older_version_is_a_conflict(registry):
    seen = registry.create(WIDGETS, "home", widget("a"))
    registry.patch(WIDGETS, "home", "a", {"spec": {"colour": "red"}})

    with pytest.raises(Conflict, match="has been modified"):
        registry.replace(WIDGETS, "home", "a", seen)


def test_a_replace_without_a_version_wins_over_any(registry):
    registry.create(WIDGETS, "home", widget("a"))

    assert registry.replace(WIDGETS, "home", "a", widget("a", colour="blue"))["spec"]["colour"] == "blue"


def test_a_replace_under_another_name_is_refused(registry):
    registry.create(WIDGETS, "home", widget("a"))

    with pytest.raises(BadRequest, match="does not match the name on the URL"):
        registry.replace(WIDGETS, "home", "a", widget("b"))


def test_a_replace_of_another_incarnation_is_a_conflict(registry):
    registry.create(WIDGETS, "home", widget("a"))

    with pytest.raises(Conflict, match="UID"):
        registry.replace(WIDGETS, "home", "a", {"metadata": {"name": "a", "uid": "somebody-else"}})


def test_writers_cannot_change_what_is_the_servers(registry):
    made = registry.create(WIDGETS, "home", widget("a"))["metadata"]
    stolen = {"uid": None, "creationTimestamp": "1999-01-01T00:00:00Z", "deletionTimestamp": "x", "generation": 99}
    patched = registry.patch(WIDGETS, "home", "a", {"metadata": stolen})["metadata"]

    assert patched == made


def test_a_write_that_changes_nothing_writes_nothing(registry):
    made = registry.create(WIDGETS, "home", widget("a"))

    assert registry.replace(WIDGETS, "home", "a", made) == made
    assert registry.hub.revision == int(made["metadata"]["resourceVersion"])


def test_the_generation_counts_changes_of_what_is_desired(registry):
    registry.create(WIDGETS, "home", widget("a"))
    registry.patch(WIDGETS, "home", "a", {"metadata": {"labels": {"a": "b"}}})
    registry.patch(WIDGETS, "home", "a", {"spec": {"colour": "red"}})

    assert registry.get(WIDGETS, "home", "a")["metadata"]["generation"] == 2


def test_the_status_and_the_rest_are_written_apart(registry):
    registry.create(WIDGETS, "home", widget("a"))
    said = {"spec": {"colour": "red"}, "status": {"ready": True}}
    registry.replace(WIDGETS, "home", "a", said, Options(subresource="status"))
    registry.patch(WIDGETS, "home", "a", {"spec": {"colour": "blue"}, "status": {"ready": False}})
    left = registry.get(WIDGETS, "home", "a")

    assert (left["spec"]["colour"], left["status"]) == ("blue", {"ready": True})


def test_a_dry_run_answers_and_writes_nothing(registry):
    dry = Options(dry_run=True)
    before = registry.hub.revision
    assert registry.create(WIDGETS, "home", widget("a"), dry)["spec"]["seat"] == 0
    assert registry.list(WIDGETS) == []
    registry.create(WIDGETS, "home", widget("b"))
    registry.update(WIDGETS, "home", "b", lambda obj: obj | {"spec": {"colour": "red"}}, dry)
    registry.delete(WIDGETS, "home", "b", None, dry)

    assert registry.get(WIDGETS, "home", "b")["spec"] == {"colour": "grey", "seat": 0}
    assert registry.hub.revision == before + 1


def test_deleting_twice_is_not_found(registry):
    registry.create(WIDGETS, "home", widget("a"))

    assert registry.delete(WIDGETS, "home", "a").removed
    with pytest.raises(NotFound):
        registry.delete(WIDGETS, "home", "a")


def test_a_deletion_can_insist_on_one_incarnation(registry):
    registry.create(WIDGETS, "home", widget("a"))

    with pytest.raises(Conflict, match="UID"):
        registry.delete(WIDGETS, "home", "a", None, Options(uid="somebody-else"))


def test_a_graceful_deletion_stamps_first_and_removes_at_grace_0(registry):
    registry.create(WIDGETS, "home", widget("a", grace=30))
    stamped = registry.delete(WIDGETS, "home", "a")
    registry.patch(WIDGETS, "home", "a", {"status": {"phase": "ending"}})

    assert not stamped.removed
    assert stamped.obj["metadata"]["deletionGracePeriodSeconds"] == 30
    assert "deletionTimestamp" in registry.get(WIDGETS, "home", "a")["metadata"]
    assert registry.delete(WIDGETS, "home", "a", 0).removed


def test_a_second_deletion_can_only_shorten_the_grace(registry):
    registry.create(WIDGETS, "home", widget("a", grace=30))

    def grace(seconds):
        return registry.delete(WIDGETS, "home", "a", seconds).obj["metadata"]["deletionGracePeriodSeconds"]

    assert [grace(None), grace(60), grace(5)] == [30, 30, 5]


def test_an_object_goes_when_its_last_finalizer_goes(registry):
    registry.create(WIDGETS, "home", {"metadata": {"name": "a", "finalizers": ["x.io/one", "x.io/two"]}})
    assert not registry.delete(WIDGETS, "home", "a").removed
    registry.patch(WIDGETS, "home", "a", {"metadata": {"finalizers": ["x.io/two"]}})
    assert registry.get(WIDGETS, "home", "a")
    registry.patch(WIDGETS, "home", "a", {"metadata": {"finalizers": None}})

    with pytest.raises(NotFound):
        registry.get(WIDGETS, "home", "a")


def test_nothing_is_created_in_a_namespace_that_is_not_there(registry):
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        registry.create(WIDGETS, "nowhere", widget())


def test_nothing_is_created_in_a_namespace_that_is_going(registry):
    registry.create(NAMESPACES, None, {"metadata": {"name": "going", "finalizers": ["x.io/y"]}})
    registry.delete(NAMESPACES, None, "going")

    with pytest.raises(Forbidden, match="it is being terminated"):
        registry.create(WIDGETS, "going", widget())


def test_lists_are_narrowed_by_namespace_labels_and_fields(registry):
    registry.create(NAMESPACES, None, {"metadata": {"name": "home-2"}})
    for namespace, name, colour in (("home", "a", "red"), ("home", "b", "blue"), ("home-2", "a", "red")):
        made = widget(name, colour=colour)
        made["metadata"]["labels"] = {"name": name}
        registry.create(WIDGETS, namespace, made)

    assert len(registry.list(WIDGETS)) == 3
    assert names(registry.list(WIDGETS, "home")) == ["a", "b"]
    assert names(registry.list(WIDGETS, "home", label_selector=parse_labels("name!=a"))) == ["b"]
    assert len(registry.list(WIDGETS, field_selector=parse_fields("spec.colour=red"))) == 2


def test_a_claim_is_held_until_its_object_is_gone(registry):
    registry.create(WIDGETS, "home", widget("a", seat=7))
    assert registry.hub.claims.taken("seats") == {"7"}
    registry.patch(WIDGETS, "home", "a", {"spec": {"seat": 8}})
    assert registry.hub.claims.taken("seats") == {"8"}
    registry.delete(WIDGETS, "home", "a")
    assert registry.hub.claims.taken("seats") == frozenset()


def test_two_objects_never_hold_the_same_claim(registry):
    registry.create(WIDGETS, "home", widget("a", seat=7))

    with pytest.raises(Exception, match="/claims/seats/7 is at revision"):
        registry.create(WIDGETS, "home", widget("b", seat=7))
    assert names(registry.list(WIDGETS)) == ["a"]


def test_a_full_pool_is_an_error_and_leaves_nothing_behind():
    registry = widgets.registry(seats=3)
    for _ in range(3):
        registry.create(WIDGETS, "home", widget())

    with pytest.raises(Invalid, match="every seat is taken"):
        registry.create(WIDGETS, "home", widget("late"))
    assert len(registry.list(WIDGETS)) == 3


def test_claims_are_known_after_a_restart(tmp_path):
    store = SqliteStore(tmp_path / "store.db")
    widgets.registry(store).create(WIDGETS, "home", widget("a"))
    store.close()
    again = widgets.registry(SqliteStore(tmp_path / "store.db"))

    assert again.create(WIDGETS, "home", widget("b"))["spec"]["seat"] == 1
    again.delete(WIDGETS, "home", "a")
    assert again.hub.claims.taken("seats") == {"1"}


class Rival:
    """A store another server writes to: just before a commit of ours, it does something of its own."""

    def __init__(self, store, before):
        self._store, self._before = store, before

    def commit(self, guards, writes):
        if self._before:
            self._before.pop()(self._store)
        return self._store.commit(guards, writes)

    def __getattr__(self, name):
        return getattr(self._store, name)


def test_a_claim_taken_by_another_server_in_between_is_replaced_by_the_next():
    interventions = []
    registry = widgets.registry(Rival(SqliteStore(":memory:"), interventions))
    interventions.append(lambda store: store.commit([], [Write(key="/claims/seats/0", value=b"theirs")]))

    assert registry.create(WIDGETS, "home", widget("a"))["spec"]["seat"] == 1


def test_an_object_changed_by_another_server_in_between_is_read_again():
    interventions = []
    registry = widgets.registry(Rival(SqliteStore(":memory:"), interventions))
    registry.create(WIDGETS, "home", widget("a"))

    def paint(store: SqliteStore):
        key = registry.topic(WIDGETS).key("home", "a")
        entry: Entry = store.get(key)
        value = entry.value.replace(b"grey", b"pink")
        store.commit([Guard(key=key, revision=entry.revision)], [Write(key=key, value=value)])

    interventions.append(paint)
    patched = registry.patch(WIDGETS, "home", "a", {"metadata": {"labels": {"a": "b"}}})
    assert (patched["spec"]["colour"], patched["metadata"]["labels"]) == ("pink", {"a": "b"})


def at_once(count, function):
    gate = threading.Barrier(count)
    outcomes = []

    def run(number):
        gate.wait()
        try:
            outcomes.append(function(number))
        except Conflict as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_of_50_writers_over_the_same_version_exactly_one_wins(registry):
    seen = registry.create(WIDGETS, "home", widget("a"))

    def write(number):
        return registry.replace(WIDGETS, "home", "a", seen | {"spec": {"colour": f"colour-{number}"}})

    outcomes = at_once(50, write)
    winners = [outcome for outcome in outcomes if not isinstance(outcome, Conflict)]
    assert winners == [registry.get(WIDGETS, "home", "a")]


def test_50_changes_at_once_are_all_there_in_the_end(registry):
    registry.create(WIDGETS, "home", widget("a"))
    at_once(50, lambda number: registry.patch(WIDGETS, "home", "a", {"metadata": {"labels": {f"l{number}": "x"}}}))

    assert len(registry.get(WIDGETS, "home", "a")["metadata"]["labels"]) == 50


def test_50_objects_created_at_once_hold_50_different_claims(registry):
    outcomes = at_once(50, lambda number: registry.create(WIDGETS, "home", widget(f"w{number}")))

    assert {made["spec"]["seat"] for made in outcomes} == set(range(50))
