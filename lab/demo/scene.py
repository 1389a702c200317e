"""The demo's objects: made with kubectl from manifests, awaited until every node's proxy knows them."""

import functools
import string
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from kube.http import Client
from kube.objects import Pod, Service
from kube.resources import SERVICES
from lab import cluster, kubectl, spelling, survey
from lab.demo import traffic
from lab.errors import LabError
from lab.plan import Lab

NAMESPACE = "demo"
PORT = 80
_MANIFESTS = Path(__file__).with_name("manifests")
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One pod of the demo as the experiments use it."""

    name: str
    node: str
    address: IPv4Address
    netns: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything the experiments need to know."""

    lab: Lab
    web: tuple[Member, ...]
    clients: tuple[Member, ...]
    service: IPv4Address
    sticky: IPv4Address

    @property
    def endpoints(self) -> frozenset[str]:
        return frozenset(member.name for member in self.web)


def manifest(lab: Lab) -> str:
    """Return the manifests for a lab of this size."""
    per_node = string.Template((_MANIFESTS / "pods.yaml").read_text(encoding="utf-8"))
    pods = [per_node.substitute(number=number, node=node.name) for number, node in enumerate(lab.nodes, start=1)]
    fixed = [(_MANIFESTS / name).read_text(encoding="utf-8") for name in ("namespace.yaml", "services.yaml")]
    return "---\n".join([*fixed, *pods])


def manifest_file(lab: Lab) -> Path:
    return lab.directory / "demo.yaml"


def apply(lab: Lab) -> str:
    """Make the objects, or what is missing of them; a pod on its way out is awaited first."""
    api = cluster.client(lab)
    _await(
        lab, lambda: not any(pod.metadata.deletion_timestamp for pod in cluster.pods(api, NAMESPACE)), "pods to be gone"
    )
    manifest_file(lab).write_text(manifest(lab), encoding="utf-8")
    return kubectl.run(lab, "apply", "-f", str(manifest_file(lab)))


def enter(lab: Lab, say: Callable[[str], None]) -> Scene:
    """Wait until all pods are ready and every client reaches every endpoint; return the scene."""
    api = cluster.client(lab)
    wanted = 2 * lab.node_count
    say(f"waiting for {wanted} pods to be ready")
    _await(lab, lambda: len(_ready(api)) == wanted, lambda: f"pods to be ready: {_unready(api)}")
    scene = _look(lab, api)
    say("waiting for every node's proxy to know all endpoints")
    for client in scene.clients:
        for address, udp in ((scene.service, False), (scene.service, True), (scene.sticky, False)):
            wanted_names = scene.endpoints if address == scene.service else None
            _await(
                lab,
                functools.partial(_is_complete, client, address, udp=udp, endpoints=wanted_names),
                f"{address} to answer {client.name}{' over UDP' if udp else ''}",
            )
    return scene


def _ready(api: Client) -> tuple[Pod, ...]:
    return tuple(pod for pod in cluster.pods(api, NAMESPACE) if cluster.is_ready(pod))


def _unready(api: Client) -> str:
    return ", ".join(pod.metadata.name for pod in cluster.pods(api, NAMESPACE) if not cluster.is_ready(pod))


def _look(lab: Lab, api: Client) -> Scene:
    netns = {record.uid: record.netns for node in lab.nodes for record in survey.sandboxes(lab, node.name)}
    members = [
        Member(
            name=pod.metadata.name,
            node=pod.spec.node_name,
            address=IPv4Address(pod.status.pod_ip),
            netns=netns[pod.metadata.uid],
        )
        for pod in sorted(_ready(api), key=lambda pod: pod.metadata.name)
    ]
    return Scene(
        lab=lab,
        web=tuple(member for member in members if member.name.startswith("web-")),
        clients=tuple(member for member in members if member.name.startswith("client-")),
        service=_cluster_ip(api, "web"),
        sticky=_cluster_ip(api, "web-sticky"),
    )


def _cluster_ip(api: Client, name: str) -> IPv4Address:
    return IPv4Address(api.get(SERVICES, name, NAMESPACE, decode=Service).spec.cluster_ip)


def _is_complete(client: Member, address: IPv4Address, *, udp: bool, endpoints: frozenset[str] | None) -> bool:
    """Ask one round; say whether all endpoints, or any if none are named, answered it without a failure."""
    answers = [traffic.ask(client.netns, address, PORT, udp=udp, seconds=0.5) for _ in endpoints or " "]
    return all(not each.failure for each in answers) and endpoints in {None, frozenset(each.pod for each in answers)}


def _await(lab: Lab, condition: Callable[[], bool], what: str | Callable[[], str]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            text = what if isinstance(what, str) else what()
            raise LabError(
                f"after {_PATIENCE:.0f} s still waiting for {text}", f"See: {spelling.command('status', lab.directory)}"
            )
        time.sleep(0.03)
