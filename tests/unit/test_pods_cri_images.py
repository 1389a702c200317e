"""Images a node does not have: fetched, refused, or named."""

from pathlib import PurePath

import grpc
import pytest

from kube.objects import Container, ObjectMeta, Pod
from pods.cri.client import CriError
from pods.cri.configs import Place
from pods.cri.runtime import CriRuntime
from pods.record import SandboxRecord
from pods.runtime import CannotStart
from tests.unit.test_pods_worker import NOW

PLACE = Place(node="node1", hosts=("192.0.2.1",), logs=PurePath("/logs"), cgroup_parent="/podwire")
POD = Pod(metadata=ObjectMeta(name="web-1", namespace="demo", uid="u1"))
SANDBOX = SandboxRecord(uid="u1", namespace="demo", name="web-1", sandbox_id="s1", made_at=NOW)


class Client:
    """A runtime with no image but `images`, and one it can fetch."""

    def __init__(self, *images, failure=None):
        self.images, self.pulled, self.failure = {*images}, [], failure

    def containers(self, labels, *, sandbox):
        return []

    def has_image(self, image):
        return image in self.images

    def pull_image(self, image):
        self.pulled.append(image)
        if image != "web:1":
            raise CriError("PullImage", grpc.StatusCode.UNKNOWN, f"no host for {image}")

    def create_container(self, sandbox, config, within):
        if self.failure:
            raise self.failure
        return "c1"

    def start_container(self, container):
        pass


def start(client, image="web:1", *, policy="", pull=True):
    container = Container(name="web", image=image, image_pull_policy=policy)
    return CriRuntime(client, PLACE, pull=pull).start(POD, container, SANDBOX)


def test_an_absent_image_is_fetched_once_and_a_present_one_never():
    client = Client()
    assert start(client) == "c1"
    client.images.add("web:1")
    start(client, policy="Always")

    assert client.pulled == ["web:1"]


@pytest.mark.parametrize(("policy", "pull"), [("Never", True), ("Always", False)])
def test_what_may_not_be_fetched_is_named_with_the_command_that_brings_it(policy, pull):
    with pytest.raises(CannotStart, match=r"ErrImageNeverPull: the image 'web:1' .* images import"):
        start(Client(), policy=policy, pull=pull)


def test_a_failed_fetch_says_why():
    with pytest.raises(CannotStart, match="ErrImagePull: no host for other"):
        start(Client(), "other")


def test_a_runtime_that_refuses_is_told_apart_from_one_that_is_away():
    refusal = CriError("CreateContainer", grpc.StatusCode.UNKNOWN, "bad environment")
    with pytest.raises(CannotStart, match="CreateContainerError: bad environment"):
        start(Client("web:1", failure=refusal))

    away = CriError("CreateContainer", grpc.StatusCode.UNAVAILABLE, "connection refused")
    with pytest.raises(CriError, match="connection refused"):
        start(Client("web:1", failure=away))
