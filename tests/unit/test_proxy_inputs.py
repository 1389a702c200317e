"""The caches as the proxy asks for them."""

import pytest

from kube.cache import Cache
from kube.events import Key, Put, Remove
from proxy.inputs import Inputs
from tests.services import endpoint_slice, named, service


class Desk:
    """Two caches, their Inputs, and the marks."""

    def __init__(self) -> None:
        self.services, self.slices = Cache(), Cache()
        self.marks: list = []
        self.inputs = Inputs(self.services, self.slices, self.marks.append)

    def slices_of(self, name: str) -> list[str]:
        return [one.metadata.name for one in self.inputs.slices(named(name))]

    def put_slice(self, owner: str, name: str, **options) -> None:
        self.slices.apply(Put(endpoint_slice(owner, [], name=name, **options)))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_service_is_marked_when_it_comes_and_when_it_goes(desk):
    desk.services.apply(Put(service("web")))
    desk.services.apply(Remove(Key("default", "web")))

    assert desk.marks == [named("web"), named("web")]
    assert desk.inputs.service(named("web")) is None


def test_a_slice_marks_its_service(desk):
    desk.put_slice("web", "web-1")
    desk.put_slice("web", "web-2")

    assert desk.slices_of("web") == ["web-1", "web-2"]
    assert desk.marks == [named("web"), named("web")]


def test_the_slices_of_a_service_come_in_one_order_however_they_arrived(desk):
    for name in ("web-2", "web-3", "web-1"):
        desk.put_slice("web", name)

    assert desk.slices_of("web") == ["web-1", "web-2", "web-3"]


def test_a_slice_that_changes_hands_marks_both(desk):
    desk.put_slice("web", "x")
    desk.put_slice("other", "x")

    assert (desk.slices_of("web"), desk.slices_of("other")) == ([], ["x"])
    assert set(desk.marks[1:]) == {named("web"), named("other")}


def test_a_slice_that_is_deleted_is_forgotten(desk):
    desk.put_slice("web", "web-1")
    desk.slices.apply(Remove(Key("default", "web-1")))

    assert desk.slices_of("web") == []
    assert desk.inputs._slices == {}


def test_a_slice_without_an_owner_concerns_nobody(desk):
    desk.put_slice("web", "x", labels={})

    assert desk.marks == []


def test_a_slice_that_loses_its_owner_is_forgotten(desk):
    desk.put_slice("web", "x")
    desk.put_slice("web", "x", labels={"kubernetes.io/service-name": "web", "service.kubernetes.io/headless": ""})

    assert desk.slices_of("web") == []


# --- health
