"""What a lab is like right now: asked of the kernel and the API, nothing remembered."""

import os
import sys
import time
from dataclasses import dataclass

from kube.errors import ApiError, Unreachable
from kube.objects import Node, Pod
from lab import cluster, plan, processes, spelling, state, supervisor
from lab.errors import LabError
from lab.plan import Lab
from lab.process import Process
from lab.runner.records import Records
from pods.record import SandboxRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentState:
    """One component. `pid` None: it does not run, and `note` says why if anybody knows."""

    name: str
    pid: int | None
    seconds: float = 0.0
    restarts: int = 0
    note: str = ""

    @property
    def is_well(self) -> bool:
        return self.pid is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    name: str
    address: str
    namespace: str
    pod_cidr: str
    ready: bool
    pods: int
    components: tuple[ComponentState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabState:
    """`api_problem` is empty when the API server answers."""

    lab: Lab
    supervisor: ComponentState
    api: ComponentState
    nodes: tuple[NodeState, ...]
    api_problem: str

    @property
    def is_well(self) -> bool:
        parts = (self.supervisor, self.api, *(each for node in self.nodes for each in node.components))
        return not self.api_problem and all(part.is_well for part in parts) and all(node.ready for node in self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    namespace: str
    name: str
    node: str
    address: str
    state: str
    ready: bool
    netns: str


def survey(lab: Lab) -> LabState:
    known, problem = _ask_api(lab)
    components = _components(lab)
    records = {node.name: sandboxes(lab, node.name) for node in lab.nodes}
    nodes = tuple(
        NodeState(
            name=node.name,
            address=str(node.address.ip),
            namespace=node.namespace,
            pod_cidr=",".join(known[node.name].spec.pod_cidrs) if node.name in known else "",
            ready=node.name in known and cluster.is_ready(known[node.name]),
            pods=sum(1 for record in records[node.name] if not record.released),
            components=tuple(each for name, each in components.items() if name.startswith(f"{node.name}/")),
        )
        for node in lab.nodes
    )
    return LabState(
        lab=lab,
        supervisor=components[supervisor.ROLE],
        api=components["api"],
        nodes=nodes,
        api_problem=problem,
    )


def _ask_api(lab: Lab) -> tuple[dict[str, Node], str]:
    try:
        return cluster.nodes(cluster.client(lab)), ""
    except (ApiError, Unreachable, LabError) as error:
        return {}, str(error)


def _components(lab: Lab) -> dict[str, ComponentState]:
    running = processes.of_lab(lab.directory)
    reports = supervisor.read_reports(lab)
    states = {
        supervisor.ROLE: _state(
            supervisor.ROLE, running, supervisor.Report(), note=f"{spelling.command('up', lab.directory)} starts it"
        )
    }
    for component in plan.components(lab, sys.executable):
        report = reports.get(component.name, supervisor.Report())
        note = "stopped" if state.is_stopped(lab, component) else report.last_exit
        states[component.name] = _state(component.name, running, report, note=note)
    return states


def _state(name: str, running: dict[str, list[Process]], report: supervisor.Report, *, note: str) -> ComponentState:
    process = next(iter(running.get(name, [])), None)
    if process is None:
        return ComponentState(name=name, pid=None, restarts=report.restarts, note=note)
    return ComponentState(name=name, pid=process.pid, seconds=_age(process), restarts=report.restarts)


def _age(process: Process) -> float:
    """Return how long a process has been running; both clocks begin with the machine's boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.started / os.sysconf("SC_CLK_TCK")


def sandboxes(lab: Lab, node: str) -> tuple[SandboxRecord, ...]:
    """Return the pods of a node: what its runner wrote down, or what its containerd has."""
    if lab.runtime == "containerd":
        # gRPC takes 80 ms to import, and most labs have no use for it.
        from lab import container_runtime

        return container_runtime.sandboxes(lab, next(each for each in lab.nodes if each.name == node))
    folder = lab.directory / "nodes" / node / "pods"
    return tuple(Records(folder).all()) if folder.is_dir() else ()


def pods(lab: Lab) -> tuple[tuple[PodState, ...], str]:
    """Return the lab's pods, and why they are told from the nodes' records alone if the API does not answer."""
    records = {record.uid: (node.name, record) for node in lab.nodes for record in sandboxes(lab, node.name)}
    try:
        known = cluster.pods(cluster.client(lab))
    except (ApiError, Unreachable, LabError) as error:
        return tuple(_recorded(node, record) for node, record in records.values()), str(error)
    netns = {uid: record.netns for uid, (_, record) in records.items() if not record.released}
    found = tuple(_known(pod, netns.get(pod.metadata.uid, "")) for pod in known)
    return tuple(sorted(found, key=lambda pod: (pod.namespace, pod.name))), ""


def _known(pod: Pod, netns: str) -> PodState:
    terminating = pod.metadata.deletion_timestamp is not None
    return PodState(
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        node=pod.spec.node_name,
        address=pod.status.pod_ip,
        state="Terminating" if terminating else pod.status.phase or "Pending",
        ready=cluster.is_ready(pod),
        netns=netns,
    )


def _is_running(name: str) -> bool:
    """A process is asked for; what has no such name is a container, and its runtime has just said that it runs."""
    return "@" not in name or processes.is_alive(Process.parse(name))


def _recorded(node: str, record: SandboxRecord) -> PodState:
    running = any(_is_running(each.running) for each in record.running)
    return PodState(
        namespace=record.namespace,
        name=record.name,
        node=node,
        address=record.address,
        state="Running" if running else "not running",
        ready=False,
        netns=record.netns,
    )
