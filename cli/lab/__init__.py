"""`podwire lab`: a cluster of network namespaces on this machine."""

import click

from cli.lab import existence, experiments, views


@click.group()
def lab() -> None:
    """Run a cluster of network namespaces on this machine."""


for command in (*existence.COMMANDS, *views.COMMANDS, *experiments.COMMANDS):
    lab.add_command(command)
