"""`podwire lab status`, `list`, `pods`, `logs`, `kubeconfig`: what there is, without touching it."""

import sys
from pathlib import Path

import click

from cli import tables
from cli.lab.options import NAME, STATE_ROOT, complaints, console, needs_root
from lab import logs as log_files
from lab import plan, spelling, state, supervisor, survey
from lab.errors import LabError, OptionError
from lab.plan import Lab


@click.command()
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


@click.command("list")
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


@click.command()
@NAME
@STATE_ROOT
@needs_root
def pods(name: str, state_root: Path) -> None:
    """List pods with node, address, state and network namespace."""
    found, problem = survey.pods(state.load(state_root, name))
    tables.print_pods(console, found)
    if problem:
        complaints.print(f"from the nodes' own records, for the API server does not answer: {problem}", soft_wrap=True)


@click.command()
@NAME
@STATE_ROOT
@needs_root
def kubeconfig(name: str, state_root: Path) -> None:
    """Print the path of the lab's kubeconfig."""
    click.echo(state.load(state_root, name).kubeconfig)


@click.command()
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


COMMANDS = (status, list_labs, pods, logs, kubeconfig)
