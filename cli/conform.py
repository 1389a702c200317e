"""`podwire conform`: does a CNI plugin keep the specification? A scorecard for people, or JSON."""

import contextlib
import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from cni.conform import kit
from cni.conform.check import Check
from cni.conform.interruption import Interrupted, Interruption
from cni.conform.verdict import Finding, Scorecard, Verdict
from cni.conform.world import PATIENCE, Subject

_STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.SKIPPED: "dim"}
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WIDE = 150  # columns of a terminal that has room for everything about a check in one line


class NothingExamined(click.ClickException):
    """Nothing could be examined."""

    exit_code = 2


@click.command()
@click.argument("plugins", metavar="PLUGIN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--conf", type=click.File("rb"), help="A network configuration (JSON) to use instead of the built-in one."
)
@click.option("--cni-path", default="", help="Where delegated plugins are found.  [default: the plugin's own folder]")
@click.option("--only", multiple=True, metavar="PREFIX", help="Only checks whose id begins so; repeatable.")
@click.option(
    "--patience",
    default=PATIENCE,
    show_default=True,
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="A call that takes longer counts as unanswered.",
)
@click.option("--json", "is_json", is_flag=True, help="Print the scorecards as JSON.")
@click.option("--markdown", "is_markdown", is_flag=True, help="Print one table for all plugins, for a document.")
def conform(
    *, plugins: tuple[Path, ...], conf: Any, only: tuple[str, ...], is_json: bool, is_markdown: bool, **how: Any
) -> None:
    """Check CNI plugin executables against the specification.

    Every check runs in network namespaces of its own and changes nothing on this machine's network. The kit sets
    name, dataDir and ipam.dataDir of the configuration itself; its cniVersion is the newest that is checked. Exit status: 0 nothing failed, 1 something
    did, 2 nothing could be examined.
    """
    checks = kit.selected(only)
    if os.geteuid() != 0:
        raise NothingExamined("network namespaces need root; run this with sudo")
    if not checks:
        raise NothingExamined(f"--only {' '.join(only)}: no check's id begins so")
    template = _template(conf)
    with _interruptible() as interruption:
        ask = functools.partial(kit.subject, conf=template, interruption=interruption, **how)
        cards = [_examined(plugin, ask, checks) for plugin in plugins]
    if is_json:
        print(json.dumps([card.to_dict() for card in cards] if len(cards) > 1 else cards[0].to_dict(), indent=2))
    elif is_markdown:
        print(markdown(cards))
    else:
        for card in cards:
            _print(Console(), card)
    sys.exit(0 if all(card.is_conforming for card in cards) else 1)


@contextlib.contextmanager
def _interruptible() -> Iterator[Interruption]:
    """Signals only ask for the end meanwhile. One that is ignored (nohup, a shell's background job) stays ignored."""
    interruption = Interruption()
    before = {number: signal.getsignal(number) for number in _ENDING}
    heeded = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in heeded:
        signal.signal(number, interruption.ask)
    try:
        yield interruption
    except Interrupted as error:
        raise click.Abort from error
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)


def _template(file: Any) -> Mapping[str, Any] | None:
    if file is None:
        return None
    try:
        conf = json.load(file)
    except ValueError as error:
        raise NothingExamined(f"--conf {file.name}: not JSON: {error}") from error
    if not isinstance(conf, dict) or "type" not in conf:
        raise NothingExamined(f"--conf {file.name}: not the configuration of one plugin, an object with a type")
    return conf


def _examined(plugin: Path, ask: Callable[[Path], Subject], checks: Sequence[Check]) -> Scorecard:
    try:
        subject = ask(plugin)
    except kit.NotExecutable as error:
        raise NothingExamined(str(error)) from error
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(str(plugin), total=len(checks))
        return kit.examine(subject, checks, on_finding=lambda _: progress.advance(task))


def _print(console: Console, card: Scorecard) -> None:
    console.print(f"[bold]{escape(card.plugin)}[/bold]  {', '.join(card.versions) or 'no versions'}", highlight=False)
    is_wide = console.width >= _WIDE
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "CHECK", "DONE", "CLAUSE", "EXPECTED", "SEEN")[: 6 if is_wide else 3]:
        table.add_column(column, overflow="fold", no_wrap=column in {"", "CHECK"})
    for finding in card.findings:
        style = _STYLES[finding.verdict]
        texts = (finding.id, finding.done, finding.clause, finding.expected, finding.seen)
        table.add_row(f"[{style}]{finding.verdict}[/{style}]", *map(escape, texts[: 5 if is_wide else 2]))
    console.print(table)
    if not is_wide:
        _print_failures(console, card)
    console.print(f"[bold]{_sum(card)}[/bold]", highlight=False)
    console.print()


def _print_failures(console: Console, card: Scorecard) -> None:
    for finding in _failed(card):
        console.print(f"\n[bold red]fail[/bold red] {finding.id}  [dim]{finding.clause}[/dim]", highlight=False)
        for name, text in (("done", finding.done), ("expected", finding.expected), ("seen", finding.seen)):
            console.print(f"  {name:9} {escape(text)}", highlight=False, soft_wrap=True)
    console.print()


def _failed(card: Scorecard) -> list[Finding]:
    return [finding for finding in card.findings if finding.verdict is Verdict.FAIL]


def _sum(card: Scorecard) -> str:
    return ", ".join(f"{card.count(verdict)} {verdict}" for verdict in Verdict)


def markdown(cards: Sequence[Scorecard]) -> str:
    """One table, a column for each plugin, and under it what failed and how."""
    names = [Path(card.plugin).name for card in cards]
    head = f"| check | clause | done | expected | {' | '.join(names)} |\n|{'---|' * (4 + len(cards))}"
    rows = []
    for findings in zip(*(card.findings for card in cards), strict=True):
        first = findings[0]
        verdicts = [f"**{one.verdict}**" if one.verdict is Verdict.FAIL else one.verdict.value for one in findings]
        rows.append(
            f"| {' | '.join((f'`{first.id}`', *map(_cell, (first.clause, first.done, first.expected)), *verdicts))} |"
        )
    totals = " | ".join(map(_sum, cards))
    return "\n".join(
        (head, *rows, f"| **all** | | | | {totals} |", "", *(line for card in cards for line in _failures(card)))
    )


def _failures(card: Scorecard) -> list[str]:
    failed = _failed(card)
    if not failed:
        return []
    return [f"What `{card.plugin}` answered:", "", *(f"- `{one.id}`: {_cell(one.seen)}" for one in failed), ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
