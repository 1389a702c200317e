"""Draws progress: one line a step, with a mark, what it brought and how long it took.

On a terminal the running step turns; elsewhere each line is printed once, when its step is over, so that a log file
reads well.
"""

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.status import Status

_TITLE_WIDTH = 16


class _DrawnStep:
    def __init__(self, title: str, status: Status) -> None:
        self.title = title
        self.text = ""
        self._status = status

    def say(self, text: str) -> None:
        self.text = text
        self._status.update(f"{escape(self.title):<{_TITLE_WIDTH}} [dim]{escape(text)}[/dim]")


class ConsoleProgress:
    """Progress on a rich console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[_DrawnStep]:
        began = time.monotonic()
        with self._console.status(title) as status:
            drawn = _DrawnStep(title, status)
            try:
                yield drawn
            except BaseException:
                self._print("[red]✗[/red]", drawn, began)
                raise
        self._print("[green]✓[/green]", drawn, began)

    def _print(self, mark: str, step: _DrawnStep, began: float) -> None:
        seconds = time.monotonic() - began
        self._console.print(
            f" {mark} {escape(step.title):<{_TITLE_WIDTH}} [cyan]{seconds:5.1f} s[/cyan]  {escape(step.text)}",
            highlight=False,
            soft_wrap=True,
        )
