import threading

import pytest

from kube.cache import Cache
from kube.events import Key, Put, Remove, Replace
from kube.objects import ObjectMeta, Service


def service(name: str, version: int = 1, uid: str = "u1") -> Service:
    metadata = ObjectMeta(name=name, namespace="default", resource_version=str(version), uid=uid)
    return Service(metadata=metadata)


A1, A2, B1 = service("a", 1), service("a", 2), service("b", 1)


@pytest.fixture
def cache() -> Cache[Service]:
    return Cache()


@pytest.fixture
def told(cache) -> list[tuple[Service | None, Service | None]]:
    told: list[tuple[Service | None, Service | None]] = []
    cache.subscribe(lambda old, new: told.append((old, new)))
    return told


def test_put_then_get(cache):
    cache.apply(Put(A1))
    assert cache.get("default", "a") is A1


def test_an_absent_object_is_none(cache):
    assert cache.get("default", "a") is None


def test_subscribers_hear_added_changed_and_deleted(cache, told):
    cache.apply(Put(A1))
    cache.apply(Put(A2))
    cache.apply(Remove(Key("default", "a")))
    assert told == [(None, A1), (A1, A2), (A2, None)]


def test_the_copy_has_changed_when_subscribers_hear_of_it(cache):
    seen = []
    cache.subscribe(lambda _old, new: seen.append(cache.get("default", "a") is new))
    cache.apply(Put(A1))
    cache.apply(Remove(Key("default", "a")))
    assert seen == [True, True]


def test_removing_what_is_not_there_is_silent(cache, told):
    cache.apply(Remove(Key("default", "a")))
    assert told == []


def test_replace_tells_only_the_differences(cache, told):
    cache.apply(Replace((A1, B1)))
    told.clear()
    cache.apply(Replace((A2, service("b", 1))))
    assert told == [(A1, A2)]


def test_replace_removes_what_is_not_listed(cache, told):
    cache.apply(Replace((A1, B1)))
    told.clear()
    cache.apply(Replace((B1,)))
    assert told == [(A1, None)]


def test_replace_keeps_what_could_not_be_read(cache, told):
    cache.apply(Replace((A1, B1)))
    told.clear()
    cache.apply(Replace((B1,), frozenset({Key("default", "a")})))
    assert told == []
    assert cache.get("default", "a") is A1


def test_an_object_made_anew_under_its_old_name_is_a_change(cache, told):
    cache.apply(Put(A1))
    again = service("a", 1, uid="u2")
    cache.apply(Replace((again,)))
    assert told[-1] == (A1, again)


def test_an_unchanged_object_of_a_new_list_takes_no_new_memory(cache):
    cache.apply(Put(A1))
    cache.apply(Replace((service("a", 1),)))
    assert cache.get("default", "a") is A1


def test_synced_comes_after_subscribers_have_heard_all(cache):
    synced = []
    cache.subscribe(lambda _old, _new: synced.append(cache.synced.is_set()))
    cache.replace(Replace((A1, B1)))
    assert synced == [False, False]
    assert cache.synced.is_set()


def test_an_empty_collection_is_synced_too(cache):
    cache.replace(Replace(()))
    assert cache.synced.is_set()


def test_a_late_subscriber_hears_what_is_there(cache):
    cache.replace(Replace((A1, B1)))
    heard: list[Service | None] = []
    cache.subscribe(lambda _old, new: heard.append(new))
    assert heard == [A1, B1]


def test_a_snapshot_does_not_change_any_more(cache):
    cache.apply(Put(A1))
    snapshot = cache.snapshot()
    cache.apply(Remove(Key("default", "a")))
    assert snapshot == {Key("default", "a"): A1}


def test_a_reader_never_waits_for_a_subscriber(cache):
    lengths: list[int] = []

    def read_in_another_thread(_old: object, _new: object) -> None:
        reader = threading.Thread(target=lambda: lengths.append(len(cache.snapshot())))
        reader.start()
        reader.join(60)

    cache.subscribe(read_in_another_thread)
    cache.apply(Put(A1))
    assert lengths == [1]
