"""`podwire lab exec`, `kubectl`, `stop`, `start`, `restart`, `images`: experiments with a lab."""

import os
from pathlib import Path

import click

from cli import failures
from cli.lab.options import NAME, STATE_ROOT, complaints, console, needs_root
from lab import kubectl as real_kubectl
from lab import spelling, state, switching, targets
from lab.images import own
from lab.images.names import ECHO, PAUSE


@click.command(
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


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@NAME
@STATE_ROOT
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@needs_root
def kubectl(name: str, state_root: Path, arguments: tuple[str, ...]) -> None:
    """Run kubectl against the lab. Options of ours come first."""
    program = real_kubectl.path()
    environment = real_kubectl.environment(state.load(state_root, name))
    os.execve(program, [program, *arguments], environment)  # noqa: S606 - the user's own command line


@click.command()
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


@click.command()
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


@click.command()
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


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def images(file: Path) -> None:
    """Write the images podwire/echo and podwire/pause to FILE, for nodes that cannot fetch any."""
    with failures.shown(complaints):
        own.write(file)
    console.print(f"{file}: {ECHO}, {PAUSE}", highlight=False, soft_wrap=True)
    console.print(f"on a node: ctr --namespace k8s.io images import {file.name}", highlight=False, soft_wrap=True)


COMMANDS = (execute, kubectl, stop, start, restart, images)
