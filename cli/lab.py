"""`podwire lab`: a cluster of network namespaces on this machine."""

import functools
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

import click
from rich.console import Console

from cli import demo, failures, tables
from cli.steps import ConsoleProgress
from ipam import cidrs
from ipam.address import Network
from lab import bring_up, plan, spelling, state, supervisor, survey, switching, take_down, targets
from lab import kubectl as real_kubectl
from lab import logs as log_files
from lab.errors import LabError, OptionError
from lab.images import own
from lab.images.names import ECHO, PAUSE
from lab.plan import Lab

# What is not a terminal has no width to keep to.
console = Console(width=None if sys.stdout.isatty() else 200)
complaints = Console(stderr=True)

_NOTHING_ASKED: Mapping[str, tuple[Network, ...]] = MappingProxyType({})

F = TypeVar("F", bound=Callable[..., Any])


class _Networks(click.ParamType[tuple[Network, ...]]):
    name = "cidr[,cidr]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Network, ...]:
        try:
            return cidrs.parse(str(value))
        except ValueError as error:
            self.fail(f"{value!r} is neither a network nor one of each family: {error}", param, ctx)


NAME = click.option(
    "--name", "-n", default=spelling.DEFAULT_NAME, envvar="PODWIRE_LAB_NAME", show_default=True, help="Which lab."
)
STATE_ROOT = click.option(
    "--state-root",
    type=click.Path(path_type=Path, file_okay=False),
    default=spelling.DEFAULT_STATE_ROOT,
    envvar="PODWIRE_STATE_ROOT",
    show_default=True,
    help="Where labs keep their state.",
)


RUNTIME = click.option(
    "--runtime",
    type=click.Choice(get_args(plan.Runtime)),
    help="Of a new lab: what its pods are, processes of this machine (the default) or containers.",
)


def needs_root(command: F) -> F:
    """Refuse early and clearly, and show a LabError as text."""

    @functools.wraps(command)
    def checked(*args: Any, **options: Any) -> Any:
        with failures.shown(complaints):
            if os.geteuid() != 0:
                raise LabError("a lab needs root: it makes network namespaces", f"Run: sudo {' '.join(sys.argv)}")
            return command(*args, **options)

    return checked  # type: ignore[return-value]


@click.group()
def lab() -> None:
    """Run a cluster of network namespaces on this machine."""


@lab.command()
@NAME
@STATE_ROOT
@click.option(
    "--nodes", type=int, help=f"How many nodes; {plan.DEFAULT_NODES} for a new lab. An existing lab can grow."
)
@click.option("--dual-stack", is_flag=True, help="Of a new lab: IPv6 beside IPv4, for pods, Services and nodes.")
@click.option(
    "--cluster-cidr", "pods", type=_Networks(), help=f"Of a new lab: pods; {plan.CLUSTER_CIDR}[,{plan.CLUSTER_CIDR6}]."
)
@click.option(
    "--service-cidr",
    "services",
    type=_Networks(),
    help=f"Of a new lab: Services; {plan.SERVICE_CIDR}[,{plan.SERVICE_CIDR6}].",
)
@RUNTIME
@needs_root
def up(  # noqa: PLR0913 - one per option
    name: str,
    state_root: Path,
    nodes: int | None,
    *,
    runtime: plan.Runtime | None,
    dual_stack: bool,
    pods: tuple[Network, ...] | None,
    services: tuple[Network, ...] | None,
) -> None:
    """Bring a lab up. On a lab that runs: repair it."""
    second = (plan.CLUSTER_CIDR6, plan.SERVICE_CIDR6) if dual_stack else (None, None)
    asked = {
        option: _with_second(networks, beside)
        for option, networks, beside in (("--cluster-cidr", pods, second[0]), ("--service-cidr", services, second[1]))
        if networks
    }
    wanted = replace(
        wanted_lab(name, state_root),
        cluster_cidrs=asked.get("--cluster-cidr", _with_second((plan.CLUSTER_CIDR,), second[0])),
        service_cidrs=asked.get("--service-cidr", _with_second((plan.SERVICE_CIDR,), second[1])),
        runtime=runtime or "processes",
    )
    existing = state.load_directory(wanted.directory)
    if dual_stack and existing is not None and not existing.is_dual_stack:
        down = spelling.command("down", existing.directory)
        raise OptionError("--dual-stack", "", f"the lab {name!r} was made with IPv4 alone; take it down first: {down}")
    _refuse_other_runtime(existing, runtime)
    outcome = ensure_up(wanted, nodes, asked=asked)
    print_outcome(outcome)
    print_kubectl(outcome.lab)


def _refuse_other_runtime(existing: Lab | None, runtime: plan.Runtime | None) -> None:
    if existing is not None and runtime is not None and existing.runtime != runtime:
        raise OptionError(
            "--runtime",
            runtime,
            f"the lab {existing.name!r} was made with {existing.runtime} and keeps it; "
            f"take it down first: {spelling.command('down', existing.directory)}",
        )


def _with_second(networks: tuple[Network, ...], second: Network | None) -> tuple[Network, ...]:
    return (*networks, second) if second and len(networks) == 1 else networks


def wanted_lab(name: str, state_root: Path) -> Lab:
    """Return the lab as it would be if it were new."""
    directory = state.directory(state_root, name)
    return Lab(
        name=name,
        directory=directory,
        node_count=plan.DEFAULT_NODES,
        api_port=state.free_port(plan.first_api_port(directory)),
    )


def ensure_up(
    wanted: Lab, nodes: int | None, *, at_least: int = 1, asked: Mapping[str, tuple[Network, ...]] = _NOTHING_ASKED
) -> bring_up.Outcome:
    """Bring the lab up; an existing one that has fewer nodes than `at_least` grows."""
    existing = state.load_directory(wanted.directory)
    if existing is not None and nodes is None:
        nodes = max(existing.node_count, at_least)
    chosen = bring_up.choose(wanted, existing, node_count=nodes, asked=asked)
    console.print(f"[bold]lab {chosen.name}[/bold], {chosen.node_count} nodes", highlight=False)
    with state.locked(chosen.directory):
        return bring_up.bring_up(chosen, existing, ConsoleProgress(console))


def print_outcome(outcome: bring_up.Outcome) -> None:
    if outcome.added:
        console.print(f"added: {', '.join(outcome.added)}", highlight=False, soft_wrap=True)
    if outcome.repairs:
        console.print(f"repaired: {', '.join(outcome.repairs)}", highlight=False, soft_wrap=True)
    elif not outcome.is_new and not outcome.added:
        console.print("the lab was up; nothing to repair", highlight=False)


def print_kubectl(chosen: Lab) -> None:
    console.print("\nTo use it from this shell:", highlight=False)
    console.print(f"  export KUBECONFIG={chosen.kubeconfig}", highlight=False, soft_wrap=True)
    console.print("  kubectl get nodes -o wide", highlight=False)
    if shutil.which("kubectl") is None:
        console.print(f"  (kubectl is {real_kubectl.path()})", highlight=False, soft_wrap=True)


@lab.command("demo")
@NAME
@STATE_ROOT
@RUNTIME
@needs_root
def show(name: str, state_root: Path, *, runtime: plan.Runtime | None) -> None:
    """Bring a lab up and show Services and pod networking at work. Can be repeated."""
    wanted = replace(wanted_lab(name, state_root), runtime=runtime or "processes")
    _refuse_other_runtime(state.load_directory(wanted.directory), runtime)
    outcome = ensure_up(wanted, None, at_least=plan.DEFAULT_NODES)
    print_outcome(outcome)
    if not demo.run(console, outcome.lab):
        raise LabError(
            "not everything was as promised: see the rows marked ✗",
            f"Look into: {spelling.command('status', outcome.lab.directory)}",
        )


@lab.command()
@NAME
@STATE_ROOT
@click.option("--all", "every", is_flag=True, help="Every lab of this state folder.")
def down(name: str, state_root: Path, *, every: bool) -> None:
    """Take a lab down: nothing of it is left."""
    if every and not state_root.exists():
        console.print(f"no labs in {state_root}", highlight=False, soft_wrap=True)
    else:
        take_down_labs(name, state_root, every=every)


@needs_root
def take_down_labs(name: str, state_root: Path, *, every: bool) -> None:
    names = state.names(state_root) if every else (name,)
    for each in names:
        console.print(f"[bold]lab {each}[/bold]", highlight=False)
        if not take_down.take_down(state_root, each, ConsoleProgress(console)):
            console.print("there is no such lab; nothing to take down", highlight=False)
    if every and not names:
        console.print(f"no labs in {state_root}", highlight=False, soft_wrap=True)


@lab.command()
@NAME
@STATE_ROOT
@needs_root
def status(name: str, state_root: Path) -> None:
    """Show nodes, their components and what is wrong. Exits with 1 when something is."""
    found = survey.survey(state.load(state_root, name))
    tables.print_status(console, found)
    if not found.is_well:
        repair = spelling.command("up", found.lab.directory)
        console.print(f"\nsomething is not as it should be; repair: {repair}", highlight=False, soft_wrap=True)
        sys.exit(1)


@lab.command("list")
@STATE_ROOT
@needs_root
def list_labs(state_root: Path) -> None:
    """List the labs of this machine."""
    names = state.names(state_root)
    if not names:
        console.print("no labs; make one: podwire lab up", highlight=False)
        return
    tables.print_labs(console, {each: _survey_if_readable(state_root, each) for each in names})


def _survey_if_readable(state_root: Path, name: str) -> survey.LabState | str:
    """Return what the lab is like, or why nobody can say."""
    try:
        return survey.survey(state.load(state_root, name))
    except LabError as error:
        return error.problem


@lab.command()
@NAME
@STATE_ROOT
@needs_root
def pods(name: str, state_root: Path) -> None:
    """List pods with node, address, state and network namespace."""
    found, problem = survey.pods(state.load(state_root, name))
    tables.print_pods(console, found)
    if problem:
        complaints.print(f"from the nodes' own records, for the API server does not answer: {problem}", soft_wrap=True)


@lab.command(
    "exec",
    context_settings={"ignore_unknown_options": True},
    epilog="\b\nExamples:\n  podwire lab exec node1 -- nft list ruleset\n  podwire lab exec web-1 -- ip address",
)
@NAME
@STATE_ROOT
@click.argument("target")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@needs_root
def execute(name: str, state_root: Path, target: str, command: tuple[str, ...]) -> None:
    """Run a COMMAND of this machine in the network of TARGET: a node, a pod, or `underlay`."""
    targets.become(targets.find(state.load(state_root, name), target), command)


@lab.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@NAME
@STATE_ROOT
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@needs_root
def kubectl(name: str, state_root: Path, arguments: tuple[str, ...]) -> None:
    """Run kubectl against the lab. Options of ours come first."""
    program = real_kubectl.path()
    environment = real_kubectl.environment(state.load(state_root, name))
    os.execve(program, [program, *arguments], environment)  # noqa: S606 - the user's own command line


@lab.command()
@NAME
@STATE_ROOT
@needs_root
def kubeconfig(name: str, state_root: Path) -> None:
    """Print the path of the lab's kubeconfig."""
    click.echo(state.load(state_root, name).kubeconfig)


@lab.command()
@NAME
@STATE_ROOT
@click.argument("component")
@needs_root
def stop(name: str, state_root: Path, component: str) -> None:
    """Stop a COMPONENT (`api`, `node1/agent`, `node1/proxy`, `node1/runner`) until it is started again."""
    chosen = state.load(state_root, name)
    switching.stop(chosen, switching.find(chosen, component))
    console.print(
        f"{component} stopped; start it again: {spelling.command('start', chosen.directory)} {component}",
        highlight=False,
    )


@lab.command()
@NAME
@STATE_ROOT
@click.argument("component")
@needs_root
def start(name: str, state_root: Path, component: str) -> None:
    """Start a stopped COMPONENT."""
    chosen = state.load(state_root, name)
    console.print(
        f"{component} runs, pid {switching.start(chosen, switching.find(chosen, component))}", highlight=False
    )


@lab.command()
@NAME
@STATE_ROOT
@click.argument("component")
@needs_root
def restart(name: str, state_root: Path, component: str) -> None:
    """Stop a COMPONENT and start it again."""
    chosen = state.load(state_root, name)
    found = switching.find(chosen, component)
    switching.stop(chosen, found)
    console.print(f"{component} runs, pid {switching.start(chosen, found)}", highlight=False)


@lab.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def images(file: Path) -> None:
    """Write the images podwire/echo and podwire/pause to FILE, for nodes that cannot fetch any."""
    with failures.shown(complaints):
        own.write(file)
    console.print(f"{file}: {ECHO}, {PAUSE}", highlight=False, soft_wrap=True)
    console.print(f"on a node: ctr --namespace k8s.io images import {file.name}", highlight=False, soft_wrap=True)


@lab.command()
@NAME
@STATE_ROOT
@click.argument("target")
@click.option("--lines", "-l", type=click.IntRange(min=1), default=50, show_default=True)
@needs_root
def logs(name: str, state_root: Path, target: str, lines: int) -> None:
    """Print the end of the log of a component (`api`, `node1/proxy`, `supervisor`) or of a pod."""
    path = log_of(state.load(state_root, name), target)
    for line in log_files.tail(path, lines):
        click.echo(log_files.said(line))


def log_of(chosen: Lab, target: str) -> Path:
    component = chosen.logs / f"{target.replace('/', '-')}.log"
    if component.exists():
        return component
    for node in chosen.nodes:
        for record in survey.sandboxes(chosen, node.name):
            if target in {record.name, f"{record.namespace}/{record.name}"} and record.containers:
                return log_files.of_container(chosen, node, record.uid, record.containers[0].name)
    components = ", ".join((supervisor.ROLE, *(each.name for each in plan.components(chosen, sys.executable))))
    raise OptionError("TARGET", target, f"neither a component nor a pod; components: {components}")
