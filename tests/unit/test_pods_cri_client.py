"""The CRI client: generated messages, and what it says when a runtime refuses, hangs or is not there."""

import subprocess
import sys
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from pods.cri import runtime_pb2 as cri
from pods.cri.client import CriClient, CriError
from tests.waiting import eventually

PROTO = Path("pods/cri/runtime.proto")


class Runtime(grpc.GenericRpcHandler):
    """Answers what a test has put in `answers`; a grpc.StatusCode is refused with."""

    def __init__(self):
        self.answers = {}
        self.asked = {}

    def service(self, call):
        name = call.method.rpartition("/")[2]

        def behave(request, context):
            self.asked[call.method] = request
            answer = self.answers[name]
            if isinstance(answer, grpc.StatusCode):
                context.abort(answer, f"no such thing for {name}")
            return answer.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(behave)


@pytest.fixture
def runtime(tmp_path):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    made = Runtime()
    server.add_generic_rpc_handlers((made,))
    made.endpoint = f"unix://{tmp_path}/s"
    server.add_insecure_port(made.endpoint)
    server.start()
    yield made
    server.stop(None).wait()


@pytest.fixture
def client(runtime):
    made = CriClient(runtime.endpoint)
    yield made
    made.close()


def test_the_generated_modules_are_those_of_the_proto(tmp_path):
    generate = [sys.executable, "-m", "grpc_tools.protoc", "-I", "."]
    subprocess.run([*generate, f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", str(PROTO)], check=True)

    for name in ("runtime_pb2.py", "runtime_pb2.pyi"):
        assert (tmp_path / "pods/cri" / name).read_text() == (PROTO.parent / name).read_text(), "run: make proto"


def test_a_call_carries_its_fields_under_the_services_name(runtime, client):
    runtime.answers["RunPodSandbox"] = cri.RunPodSandboxResponse(pod_sandbox_id="s1")
    config = cri.PodSandboxConfig(hostname="web-1", labels={"a": "b"})

    assert client.run_sandbox(config) == "s1"

    asked = cri.RunPodSandboxRequest.FromString(runtime.asked["/runtime.v1.RuntimeService/RunPodSandbox"])
    assert asked.config == config


def test_images_are_asked_of_the_image_service(runtime, client):
    runtime.answers["ImageStatus"] = cri.ImageStatusResponse()

    assert not client.has_image("nginx")
    assert "/runtime.v1.ImageService/ImageStatus" in runtime.asked


def test_a_refusal_names_the_call_and_the_runtimes_words(runtime, client):
    runtime.answers["ContainerStatus"] = grpc.StatusCode.NOT_FOUND

    with pytest.raises(CriError, match="ContainerStatus: no such thing for ContainerStatus") as caught:
        client.container("c1")
    assert caught.value.is_missing


def test_a_runtime_that_is_not_there_is_an_error_at_once(tmp_path):
    client = CriClient(f"unix://{tmp_path}/nothing")

    with pytest.raises(CriError, match="UNAVAILABLE") as caught:
        client.version()
    assert not caught.value.is_missing
    client.close()


def test_an_endpoint_that_answers_later_is_found_by_the_same_client(tmp_path):
    client = CriClient(f"unix://{tmp_path}/s")
    with pytest.raises(CriError):
        client.version()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    runtime = Runtime()
    runtime.answers["Version"] = cri.VersionResponse(runtime_name="late")
    server.add_generic_rpc_handlers((runtime,))
    server.add_insecure_port(client.endpoint)
    server.start()

    def name():
        try:
            return client.version().runtime_name
        except CriError:
            return ""

    assert eventually(name) == "late"
    client.close()
    server.stop(None).wait()
