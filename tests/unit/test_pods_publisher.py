"""Statuses on their way to the API, against a client in memory."""

from contextlib import contextmanager

import msgspec
import pytest

from kube.errors import Conflict, Invalid, NotFound, Unreachable
from kube.objects import ObjectMeta, Pod
from pods.publisher import PodKey, Publisher
from tests.waiting import eventually

KEY = PodKey("demo", "web-1", "u1")


class Server:
    """One pod, or none; `failures` are raised before anything is done, one a request."""

    def __init__(self, uid="u1", *failures):
        self.uid = uid
        self.failures = list(failures)
        self.statuses = []
        self.deleted = []

    def _answer(self, name):
        if self.failures:
            raise self.failures.pop(0)
        if self.uid is None:
            raise NotFound(f"{name} not found")

    def get(self, resource, name, namespace, *, decode):
        self._answer(name)
        return Pod(metadata=ObjectMeta(name=name, namespace=namespace, uid=self.uid))

    def patch(self, resource, name, patch, namespace, *, subresource):
        self._answer(name)
        if patch["metadata"]["uid"] != self.uid:
            raise Conflict("another uid")
        self.statuses.append(msgspec.to_builtins(patch["status"]))

    def delete(self, resource, name, namespace, *, grace_period):
        self._answer(name)
        self.deleted.append((self.uid, grace_period))
        self.uid = None


@contextmanager
def publishing(server):
    publisher = Publisher(server)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop()


def test_a_status_reaches_the_server():
    server = Server()
    with publishing(server) as publisher:
        publisher.status(KEY, {"phase": "Running"})
        eventually(lambda: server.statuses == [{"phase": "Running"}])


@pytest.mark.parametrize(
    "failure", [Unreachable("server", "refused"), Conflict("busy")], ids=["unreachable", "conflict"]
)
def test_a_status_is_sent_again_until_the_server_has_it(failure):
    server = Server("u1", failure, failure)
    with publishing(server) as publisher:
        publisher.status(KEY, {"phase": "Running"})
        eventually(lambda: server.statuses == [{"phase": "Running"}])


def test_only_the_newest_status_of_a_pod_is_sent_once_the_server_is_back():
    server = Server("u1", *[Unreachable("server", "refused")] * 2)
    with publishing(server) as publisher:
        publisher.status(KEY, {"phase": "Pending"})
        eventually(lambda: len(server.failures) < 2)
        publisher.status(KEY, {"phase": "Running"})
        eventually(lambda: server.statuses and server.statuses[-1] == {"phase": "Running"})


def test_the_object_of_a_pod_that_is_gone_is_removed_at_once():
    server = Server()
    with publishing(server) as publisher:
        publisher.gone(KEY)
        eventually(lambda: server.deleted == [("u1", 0)])


def test_a_later_pod_of_the_same_name_is_neither_told_about_nor_removed():
    server = Server("u2")
    after = PodKey("demo", "web-2", "u2")
    with publishing(server) as publisher:
        publisher.status(KEY, {"phase": "Running"})
        publisher.gone(KEY)
        publisher.status(after, {"phase": "Pending"})
        eventually(lambda: server.statuses == [{"phase": "Pending"}])

    assert server.deleted == []


def test_a_forgotten_pod_is_not_removed():
    server = Server("u1", *[Unreachable("server", "refused")] * 3)
    after = PodKey("demo", "web-2", "u1")
    with publishing(server) as publisher:
        publisher.status(KEY, {"phase": "Running"})
        publisher.forget(KEY)
        publisher.status(after, {"phase": "Pending"})
        eventually(lambda: {"phase": "Pending"} in server.statuses)

    assert server.deleted == []


def test_a_status_the_server_calls_invalid_is_not_sent_for_ever():
    server = Server("u1", Invalid("no such phase"))
    with publishing(server) as publisher:
        publisher.status(KEY, {"phase": "Odd"})
        eventually(lambda: not server.failures)
        publisher.status(PodKey("demo", "web-2", "u1"), {"phase": "Pending"})
        eventually(lambda: server.statuses == [{"phase": "Pending"}])
