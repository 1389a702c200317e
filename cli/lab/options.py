"""What the `podwire lab` commands have in common: their options, the terminal, and how they refuse."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
from rich.console import Console

from cli import failures
from ipam import cidrs
from ipam.address import Network
from lab import plan, spelling
from lab.errors import LabError

# What is not a terminal has no width to keep to.
console = Console(width=None if sys.stdout.isatty() else 200)
complaints = Console(stderr=True)

F = TypeVar("F", bound=Callable[..., Any])


class Networks(click.ParamType[tuple[Network, ...]]):
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
