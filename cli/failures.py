"""Turns what went wrong into what a person reads: the problem, the end of the log that explains it, what to do."""

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape

from dataplane.errors import DataplaneError
from kube.errors import ApiError, Unreachable
from lab import logs
from lab.errors import LabError, StepError

_LOG_LINES = 12


@contextlib.contextmanager
def shown(console: Console) -> Iterator[None]:
    """Print what went wrong and exit with status 1; a mistake of our own goes on as a traceback."""
    try:
        yield
    except LabError as error:
        _print_problem(console, f"{error.step}: {error.problem}" if isinstance(error, StepError) else error.problem)
        if isinstance(error, StepError):
            _print_log(console, error)
        _print_remedy(console, error.remedy)
        sys.exit(1)
    except (ApiError, Unreachable, DataplaneError) as error:
        _print_problem(console, str(error))
        sys.exit(1)
    except OSError as error:
        _print_problem(console, f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(1)


def _print_problem(console: Console, text: str) -> None:
    console.print(f"[bold red]podwire:[/bold red] {escape(text)}", highlight=False, soft_wrap=True)


def _print_remedy(console: Console, remedy: str) -> None:
    if remedy:
        console.print(f"  {escape(remedy)}", highlight=False, soft_wrap=True)


def _print_log(console: Console, error: StepError) -> None:
    if error.log is None:
        return
    lines = logs.tail(error.log, _LOG_LINES)
    console.print(f"  the end of {escape(str(error.log))}:", highlight=False, soft_wrap=True)
    for line in lines or ("(nothing was logged)",):
        console.print(f"    [dim]{escape(line)}[/dim]", highlight=False, soft_wrap=True)
