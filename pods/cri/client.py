"""The calls of the container runtime interface as functions: a request's fields in, what was asked for out.

One channel for the life of the process; it reconnects by itself, so a restarted runtime is only a failed call. Every
call has a deadline. Whatever goes wrong is a CriError that names the call and holds the runtime's own words.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from pods.cri import runtime_pb2 as cri
from pods.runtime import RuntimeFailed

Answer = TypeVar("Answer", bound=Message)

_QUICK: Final = 10.0  # seconds for what only looks or notes something down
_SLOW: Final = 120.0  # for what executes network plugins, unpacks an image or waits for processes
_LARGEST: Final = 16 << 20  # bytes of one answer; gRPC's own limit of 4 MiB is below a node with many pods

# A unix socket is there or not: waiting for longer than a moment between tries helps nobody.
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _LARGEST),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class CriError(RuntimeFailed):
    """A call the runtime refused or did not answer."""

    def __init__(self, call: str, code: grpc.StatusCode, details: str) -> None:
        super().__init__(call, code, details)
        self.call, self.code, self.details = call, code, details

    def __str__(self) -> str:
        return f"{self.call}: {self.details} ({self.code.name})"

    @property
    def is_missing(self) -> bool:
        """Say whether there is no such sandbox, container or image."""
        return self.code is grpc.StatusCode.NOT_FOUND


class CriClient:
    """One runtime, at an endpoint such as unix:///run/containerd/containerd.sock. Threads may share it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._channel = grpc.insecure_channel(endpoint, options=_OPTIONS)
        self._stubs: dict[str, Callable[..., Any]] = {}

    def close(self) -> None:
        self._channel.close()

    # --- the runtime

    def version(self) -> cri.VersionResponse:
        return self._ask("Version", cri.VersionRequest(), cri.VersionResponse)

    def conditions(self) -> Mapping[str, cri.RuntimeCondition]:
        """Return what the runtime says of itself: RuntimeReady and NetworkReady, with reasons."""
        status = self._ask("Status", cri.StatusRequest(), cri.StatusResponse).status
        return {condition.type: condition for condition in status.conditions}

    # --- sandboxes

    def run_sandbox(self, config: cri.PodSandboxConfig) -> str:
        """Make and wire a sandbox; return its id."""
        request = cri.RunPodSandboxRequest(config=config)
        return self._ask("RunPodSandbox", request, cri.RunPodSandboxResponse, seconds=_SLOW).pod_sandbox_id

    def stop_sandbox(self, sandbox: str) -> None:
        """Kill what runs in a sandbox and give its network back. May be repeated."""
        self._ask(
            "StopPodSandbox", cri.StopPodSandboxRequest(pod_sandbox_id=sandbox), cri.StopPodSandboxResponse, _SLOW
        )

    def remove_sandbox(self, sandbox: str) -> None:
        """Remove a sandbox with its containers. May be repeated."""
        request = cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox)
        self._ask("RemovePodSandbox", request, cri.RemovePodSandboxResponse, _SLOW)

    def sandboxes(self, labels: Mapping[str, str]) -> Sequence[cri.PodSandbox]:
        request = cri.ListPodSandboxRequest(filter=cri.PodSandboxFilter(label_selector=labels))
        return self._ask("ListPodSandbox", request, cri.ListPodSandboxResponse).items

    def sandbox(self, sandbox: str, *, verbose: bool = False) -> cri.PodSandboxStatusResponse:
        """Return a sandbox's status; `verbose` adds the runtime's own information, as JSON."""
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox, verbose=verbose)
        return self._ask("PodSandboxStatus", request, cri.PodSandboxStatusResponse)

    # --- containers

    def create_container(self, sandbox: str, config: cri.ContainerConfig, within: cri.PodSandboxConfig) -> str:
        """Make a container in a sandbox that was made of the configuration `within`; return its id."""
        request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=config, sandbox_config=within)
        return self._ask("CreateContainer", request, cri.CreateContainerResponse, _SLOW).container_id

    def start_container(self, container: str) -> None:
        request = cri.StartContainerRequest(container_id=container)
        self._ask("StartContainer", request, cri.StartContainerResponse, _SLOW)

    def stop_container(self, container: str, *, grace: int) -> None:
        """Ask a container to end, kill it after `grace` seconds; return when it has ended."""
        request = cri.StopContainerRequest(container_id=container, timeout=grace)
        self._ask("StopContainer", request, cri.StopContainerResponse, grace + _SLOW)

    def remove_container(self, container: str) -> None:
        request = cri.RemoveContainerRequest(container_id=container)
        self._ask("RemoveContainer", request, cri.RemoveContainerResponse, _SLOW)

    def containers(self, labels: Mapping[str, str], *, sandbox: str = "") -> Sequence[cri.Container]:
        chosen = cri.ContainerFilter(label_selector=labels, pod_sandbox_id=sandbox)
        return self._ask(
            "ListContainers", cri.ListContainersRequest(filter=chosen), cri.ListContainersResponse
        ).containers

    def container(self, container: str) -> cri.ContainerStatus:
        request = cri.ContainerStatusRequest(container_id=container)
        return self._ask("ContainerStatus", request, cri.ContainerStatusResponse).status

    def execute(self, container: str, command: Sequence[str], *, seconds: int) -> cri.ExecSyncResponse:
        """Run a command in a container to its end. Raises CriError with DEADLINE_EXCEEDED when that takes longer."""
        request = cri.ExecSyncRequest(container_id=container, cmd=command, timeout=seconds)
        return self._ask("ExecSync", request, cri.ExecSyncResponse, seconds + _QUICK)

    def reopen_log(self, container: str) -> None:
        """Make the runtime write to the log's path anew, after the file there was moved away."""
        request = cri.ReopenContainerLogRequest(container_id=container)
        self._ask("ReopenContainerLog", request, cri.ReopenContainerLogResponse)

    # --- images

    def has_image(self, image: str) -> bool:
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=image))
        return self._ask("ImageStatus", request, cri.ImageStatusResponse).HasField("image")

    def pull_image(self, image: str) -> None:
        request = cri.PullImageRequest(image=cri.ImageSpec(image=image))
        self._ask("PullImage", request, cri.PullImageResponse, _SLOW)

    # --- the wire

    def _ask(self, call: str, request: Message, answer: type[Answer], seconds: float = _QUICK) -> Answer:
        try:
            found: Answer = self._stub(call, answer)(request, timeout=seconds)
        except grpc.RpcError as error:
            raise CriError(call, error.code(), error.details() or "no details") from error
        return found

    def _stub(self, call: str, answer: type[Message]) -> Callable[..., Any]:
        if call not in self._stubs:
            service = "ImageService" if "Image" in call else "RuntimeService"
            self._stubs[call] = self._channel.unary_unary(
                f"/runtime.v1.{service}/{call}",
                request_serializer=methodcaller("SerializeToString"),
                response_deserializer=answer.FromString,
            )
        return self._stubs[call]
