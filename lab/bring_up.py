"""Bringing a lab up, step by step; on a lab that runs, the same steps repair what is broken and say what that was.

Each step waits for the thing itself, not for a process: the API server answers, a Node is Ready and its CNI
configuration is there, the proxy's table is in the kernel. A component that keeps ending is given up with its log.
"""

import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType

from dataplane import bridge_netfilter, netns
from dataplane.errors import DataplaneError
from dataplane.nft.linux import LinuxNft
from dataplane.nft.objects import Family, Table
from ipam import cidrs
from ipam.address import Network
from kube.errors import ApiError, Unreachable
from kube.http import Client
from lab import cluster, plan, processes, spelling, state, supervisor, topology
from lab.errors import LabError, OptionError, StepError
from lab.plan import Component, Lab, NodePlan
from lab.process import Process
from lab.progress import Progress, Step

_PATIENCE = 60.0  # seconds for any one step
_HOPELESS = 4  # ends of a component after which nobody waits any longer
_PROXY_TABLE = Table(family=Family.IP, name="podwire-proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A running lab; for one that existed before, what had to be made again, and which nodes are new."""

    lab: Lab
    is_new: bool
    repairs: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


def choose(
    wanted: Lab, existing: Lab | None, *, node_count: int | None, asked: Mapping[str, tuple[Network, ...]]
) -> Lab:
    """Return the lab to bring up: an existing one keeps what it was made with, and may grow.

    `asked` are the networks that were named, by their option.
    """
    if existing is None:
        lab = plan.validate(wanted if node_count is None else replace(wanted, node_count=node_count))
        _refuse_foreign_namespaces(lab)
        return lab
    _refuse_other_networks(existing, asked)
    if node_count is not None and node_count < existing.node_count:
        raise OptionError(
            "--nodes",
            node_count,
            f"the lab {existing.name!r} has {existing.node_count} nodes and can only grow; "
            f"take it down first: {spelling.command('down', existing.directory)}",
        )
    return plan.validate(existing if node_count is None else replace(existing, node_count=node_count))


def _refuse_other_networks(existing: Lab, asked: Mapping[str, tuple[Network, ...]]) -> None:
    has = {"--cluster-cidr": existing.cluster_cidrs, "--service-cidr": existing.service_cidrs}
    for option, networks in asked.items():
        if networks != has[option]:
            raise OptionError(
                option,
                cidrs.spell(networks),
                f"the lab {existing.name!r} was made with {cidrs.spell(has[option])} and keeps it; "
                f"take it down first: {spelling.command('down', existing.directory)}",
            )


def _refuse_foreign_namespaces(lab: Lab) -> None:
    """The names of namespaces are the machine's: a lab of this name may exist with its state elsewhere."""
    owner = owner_of_namespaces(lab.name)
    if owner is not None and owner != lab.directory:
        raise LabError(
            f"the machine has a lab named {lab.name!r} already, with its state in {owner}",
            f"Choose another --name, or: {spelling.command('down', owner)}",
        )


def owner_of_namespaces(name: str) -> Path | None:
    """Return the folder of the lab whose processes are in the namespaces of this name."""
    for process in processes.in_namespaces(topology.identities(topology.namespaces(name))):
        if owner := processes.environment(process.pid).get(processes.LAB):
            return Path(owner)
    return None


def bring_up(lab: Lab, existing: Lab | None, progress: Progress) -> Outcome:
    """Make the lab whole, or grow `existing` into it. The caller holds the lab's lock. Raises StepError."""
    if not bridge_netfilter.load():
        raise LabError(
            "Services need the kernel module br_netfilter, which cannot be loaded", "Run: modprobe br_netfilter"
        )
    old = existing.node_count if existing is not None else 0
    work = _BringUp(lab, frozenset(node.name for node in lab.nodes[old:]), progress)
    work.run()
    if existing is None:
        return Outcome(lab=work.lab, is_new=True)
    return Outcome(lab=work.lab, is_new=False, repairs=tuple(work.repairs), added=tuple(sorted(work.new_nodes)))


class _BringUp:
    """The steps, in order, and what they had to make."""

    def __init__(self, lab: Lab, new_nodes: frozenset[str], progress: Progress) -> None:
        self.lab = lab
        self.new_nodes = new_nodes
        self.repairs: list[str] = []
        self._progress = progress
        self._before = processes.of_lab(lab.directory)
        self._reports_before = supervisor.read_reports(lab)

    def run(self) -> None:
        self._choose_port()
        state.make_folders(self.lab)
        state.save(self.lab)
        for title, work in (
            ("Underlay", self._underlay),
            ("Nodes", self._nodes),
            ("Supervisor", self._supervisor),
            ("API server", self._api_server),
            ("Node agents", self._agents),
            ("Service proxies", self._proxies),
            *((("Container runtimes", self._runtimes),) if self.lab.runtime == "containerd" else ()),
            ("Pod runners", self._runners),
        ):
            with self._progress.step(title) as step:
                try:
                    work(step)
                except DataplaneError as error:
                    raise StepError(title, f"the kernel refused: {error}") from error
        self._note_restarts()

    def _choose_port(self) -> None:
        """Keep the lab's port, unless the server is down and somebody else has taken it meanwhile."""
        if "api" not in self._before and not state.is_port_free(self.lab.api_port):
            self.lab = replace(self.lab, api_port=state.free_port(self.lab.api_port + 1))

    def _underlay(self, step: Step) -> None:
        self.repairs += topology.ensure_underlay(self.lab)
        step.say(f"namespace {self.lab.namespace}, bridge {plan.UNDERLAY_BRIDGE} {plan.GATEWAY}")

    def _nodes(self, step: Step) -> None:
        for node in self.lab.nodes:
            step.say(f"{node.namespace} {node.address.ip}")
            made = topology.ensure_node(self.lab, node)
            self.repairs += () if node.name in self.new_nodes else made
        addresses = [str(node.address.ip) for node in self.lab.nodes]
        step.say(f"{len(addresses)} namespaces, {addresses[0]} … {addresses[-1]}")

    def _supervisor(self, step: Step) -> None:
        if self.lab.runtime == "containerd":
            _container_runtime().prepare(self.lab)
        for component in self._components():
            if state.is_stopped(self.lab, component):
                state.set_stopped(self.lab, component, stopped=False)
        running = self._before.get(supervisor.ROLE)
        self._supervising = running[0] if running else self._start_supervisor()
        processes.send(self._supervising, signal.SIGHUP)
        step.say(f"pid {self._supervising.pid}")

    def _start_supervisor(self) -> Process:
        process = processes.spawn(
            (sys.executable, "-I", "-m", "lab.supervisor", str(self.lab.directory)),
            log=self._supervisor_log,
            variables=supervisor.variables(self.lab, supervisor.ROLE),
            blocked=(signal.SIGHUP,),
        )
        if self._before:
            self.repairs.append("supervisor started")
        return process

    @property
    def _supervisor_log(self) -> Path:
        return supervisor.log_path(self.lab)

    def _components(self) -> tuple[Component, ...]:
        return plan.components(self.lab, sys.executable)

    def _api_server(self, step: Step) -> None:
        def answers() -> bool:
            if not cluster.write_kubeconfigs(self.lab):
                return False
            cluster.nodes(cluster.client(self.lab))
            return True

        self._await(answers, "API server", "api")
        step.say(f"https://127.0.0.1:{self.lab.api_port}, on the underlay https://{plan.GATEWAY.ip}:{plan.API_PORT}")

    def _agents(self, step: Step) -> None:
        api = cluster.client(self.lab)
        for node in self.lab.nodes:
            step.say(f"waiting for {node.name}")
            self._await(partial(self._is_registered, node, api), "Node agents", f"{node.name}/agent")
        known = cluster.nodes(api)
        step.say(", ".join(f"{node.name} {','.join(known[node.name].spec.pod_cidrs)}" for node in self.lab.nodes))

    def _is_registered(self, node: NodePlan, api: Client) -> bool:
        """Whether a node is ready and has, and says, an address of every family of the lab."""
        found, families = cluster.nodes(api).get(node.name), len(self.lab.cluster_cidrs)
        if found is None or len(found.spec.pod_cidrs) < families or not cluster.is_ready(found):
            return False
        said = [address for address in found.status.addresses if address.type == "InternalIP"]
        return len(said) >= families and any(node.cni_conf_dir.glob("*.conflist"))

    def _proxies(self, step: Step) -> None:
        for node in self.lab.nodes:
            step.say(f"waiting for {node.name}")
            self._await(lambda node=node: _has_proxy_table(node), "Service proxies", f"{node.name}/proxy")  # type: ignore[misc]
        step.say(f"table {_PROXY_TABLE.name} on every node")

    def _runtimes(self, step: Step) -> None:
        container_runtime = _container_runtime()
        for node in self.lab.nodes:
            step.say(f"waiting for {node.name}")
            role = f"{node.name}/containerd"
            self._await(lambda node=node: container_runtime.answers(node), "Container runtimes", role)  # type: ignore[misc]
            if not container_runtime.has_images(node):
                container_runtime.import_images(self.lab, node)
            self._await(lambda node=node: container_runtime.is_ready(node), "Container runtimes", role)  # type: ignore[misc]
        step.say("containerd on every node, with the images podwire/echo and podwire/pause")

    def _runners(self, step: Step) -> None:
        for node in self.lab.nodes:
            role = f"{node.name}/runner"
            self._await(lambda role=role: role in processes.of_lab(self.lab.directory), "Pod runners", role)  # type: ignore[misc]
        step.say(f"{self.lab.node_count} running")

    def _await(self, condition: Callable[[], bool], title: str, role: str) -> None:
        """Wait until the condition holds; give up with the component's log when it cannot or takes too long."""
        deadline = time.monotonic() + _PATIENCE
        while not _holds(condition):
            if self._ends(role) >= _HOPELESS:
                raise self._failure(title, role, f"{role} keeps ending ({self._last_exit(role)})")
            if not processes.is_alive(self._supervising):
                raise self._failure(title, supervisor.ROLE, "the supervisor ended")
            if time.monotonic() > deadline:
                raise self._failure(title, role, f"{role} is not there after {_PATIENCE:.0f} s")
            time.sleep(0.03)

    def _failure(self, title: str, role: str, problem: str) -> StepError:
        logs = {each.name: each.log for each in self._components()}
        again, give_up = (spelling.command(verb, self.lab.directory) for verb in ("up", "down"))
        return StepError(
            title,
            problem,
            log=logs.get(role, self._supervisor_log),
            remedy=f"What was made is kept to be looked at. Try again: {again}; give up: {give_up}",
        )

    def _ends(self, role: str) -> int:
        """Return how often a component has ended since this began."""
        nothing = supervisor.Report()
        reports = supervisor.read_reports(self.lab)
        return reports.get(role, nothing).restarts - self._reports_before.get(role, nothing).restarts

    def _last_exit(self, role: str) -> str:
        return supervisor.read_reports(self.lab).get(role, supervisor.Report()).last_exit

    def _note_restarts(self) -> None:
        now = processes.of_lab(self.lab.directory)
        for component in self._components():
            if component.name.partition("/")[0] in self.new_nodes:
                continue
            before, after = self._before.get(component.name, []), now.get(component.name, [])
            if after and after[:1] != before[:1]:
                self.repairs.append(f"{component.name} started")


def _holds(condition: Callable[[], bool]) -> bool:
    """Ask once; an API that does not answer yet, or a namespace that is not there yet, is a no."""
    try:
        return condition()
    except (ApiError, Unreachable, DataplaneError):
        return False


def _container_runtime() -> ModuleType:
    # gRPC takes 80 ms to import, and most labs have no use for it.
    from lab import container_runtime

    return container_runtime


def _has_proxy_table(node: NodePlan) -> bool:
    with netns.open_netns(topology.path_of(node.namespace)) as target:
        return LinuxNft(_PROXY_TABLE, netns_fd=target.fd).table_exists()
