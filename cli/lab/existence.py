"""`podwire lab up`, `demo`, `down`: labs come and go."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import click

from cli import demo
from cli.lab.options import NAME, RUNTIME, STATE_ROOT, Networks, console, needs_root
from cli.steps import ConsoleProgress
from ipam.address import Network
from lab import bring_up, networks, plan, spelling, state, take_down
from lab import kubectl as real_kubectl
from lab.errors import LabError, OptionError
from lab.plan import Lab

_NOTHING_ASKED: Mapping[str, tuple[Network, ...]] = MappingProxyType({})


@click.command()
@NAME
@STATE_ROOT
@click.option(
    "--nodes", type=int, help=f"How many nodes; {plan.DEFAULT_NODES} for a new lab. An existing lab can grow."
)
@click.option("--dual-stack", is_flag=True, help="Of a new lab: IPv6 beside IPv4, for pods, Services and nodes.")
@click.option(
    "--cluster-cidr",
    "pods",
    type=Networks(),
    help=f"Of a new lab: pods; {networks.CLUSTER_CIDR}[,{networks.CLUSTER_CIDR6}].",
)
@click.option(
    "--service-cidr",
    "services",
    type=Networks(),
    help=f"Of a new lab: Services; {networks.SERVICE_CIDR}[,{networks.SERVICE_CIDR6}].",
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
    second = (networks.CLUSTER_CIDR6, networks.SERVICE_CIDR6) if dual_stack else (None, None)
    asked = {
        option: _with_second(given, beside)
        for option, given, beside in (("--cluster-cidr", pods, second[0]), ("--service-cidr", services, second[1]))
        if given
    }
    wanted = replace(
        wanted_lab(name, state_root),
        cluster_cidrs=asked.get("--cluster-cidr", _with_second((networks.CLUSTER_CIDR,), second[0])),
        service_cidrs=asked.get("--service-cidr", _with_second((networks.SERVICE_CIDR,), second[1])),
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


def _with_second(first: tuple[Network, ...], second: Network | None) -> tuple[Network, ...]:
    return (*first, second) if second and len(first) == 1 else first


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


@click.command("demo")
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


@click.command()
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


COMMANDS = (up, show, down)
