"""`podwire lab demo`: a lab, pods on every node, and tables that show the promises kept, or not."""

import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.steps import ConsoleProgress
from lab import spelling
from lab.demo import experiments, scene
from lab.demo.findings import LONGEST_WITHDRAWAL, Answer, Finding, Pings, Pinned, Turns, Withdrawal
from lab.demo.scene import NAMESPACE, Scene
from lab.plan import Lab

_OKAY = "[green]✓[/green]"
_BROKEN = "[red]✗[/red]"
_COLOURS = ("cyan", "magenta", "yellow", "blue", "green", "red")


def run(console: Console, lab: Lab) -> bool:
    """Show everything and what to try next; say whether all of it was as promised."""
    stage = _set(console, lab)
    turns = (*experiments.take_turns(stage), *experiments.take_turns(stage, udp=True))
    _print_turns(console, stage, turns)
    pinned = experiments.stay(stage)
    _print_pinned(console, stage, pinned)
    pings = experiments.ping_all(stage)
    _print_pings(console, pings)
    withdrawal = experiments.withdraw(stage)
    _print_withdrawal(console, withdrawal)
    _print_next(console, _set(console, lab))
    findings: tuple[Finding, ...] = (*turns, *pinned, *pings, withdrawal)
    return all(finding.is_as_promised for finding in findings)


def _set(console: Console, lab: Lab) -> Scene:
    """Apply the manifests and wait for the pods; also what puts a deleted pod back."""
    progress = ConsoleProgress(console)
    with progress.step("Manifests") as step:
        step.say(f"kubectl apply -f {scene.manifest_file(lab)}")
        scene.apply(lab)
    with progress.step("Pods") as step:
        stage = scene.enter(lab, step.say)
        step.say(f"{len(stage.web) + len(stage.clients)} ready on {lab.node_count} nodes")
    return stage


def _table(console: Console, title: str, *columns: str) -> Table:
    console.print(f"\n[bold]{title}[/bold]", highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=True, header_style="dim", padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _print_turns(console: Console, stage: Scene, turns: tuple[Turns, ...]) -> None:
    count = len(turns[0].answers)
    title = f"{count} requests to the ClusterIP {stage.service} from a pod on each node: strict turn over all nodes"
    table = _table(console, title, "", "from", "by", "answered by web-…", "on nodes")
    nodes = {member.name: member.node for member in stage.web}
    for row in turns:
        used = sorted({nodes.get(answer.pod, "?") for answer in row.answers})
        table.add_row(
            _mark(row.is_as_promised),
            f"{row.client} ({row.node})",
            row.protocol,
            _sequence(stage, row.answers),
            _summary(used),
        )
    console.print(table)


def _print_pinned(console: Console, stage: Scene, rows: tuple[Pinned, ...]) -> None:
    title = f"{len(rows[0].answers)} requests to {stage.sticky}, a Service with ClientIP affinity: each client stays"
    table = _table(console, title, "", "from", "answered by web-…")
    for row in rows:
        table.add_row(_mark(row.is_as_promised), f"{row.client} ({row.node})", _sequence(stage, row.answers))
    console.print(table)


def _sequence(stage: Scene, answers: tuple[Answer, ...]) -> str:
    colours = {member.name: _COLOURS[number % len(_COLOURS)] for number, member in enumerate(stage.web)}
    return " ".join(_one(answer, colours) for answer in answers) + _first_failure(answers)


def _one(answer: Answer, colours: dict[str, str]) -> str:
    if answer.failure:
        return "[red]✗[/red]"
    return f"[{colours.get(answer.pod, 'red')}]{answer.pod.removeprefix('web-')}[/]"


def _first_failure(answers: tuple[Answer, ...]) -> str:
    return next((f"  [red]{answer.failure}[/red]" for answer in answers if answer.failure), "")


def _summary(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} nodes"


def _print_pings(console: Console, rows: tuple[Pings, ...]) -> None:
    names = [name for name, _ in rows[0].round_trips]
    table = _table(console, "ping from every pod to every pod and every node, in milliseconds", "", "from", *names)
    for row in rows:
        cells = [_round_trip(milliseconds) for _, milliseconds in row.round_trips]
        table.add_row(_mark(row.is_as_promised), row.source, *cells)
    console.print(table)


def _round_trip(milliseconds: float | None) -> str:
    return _BROKEN if milliseconds is None else f"[green]{milliseconds:.2f}[/green]"


def _print_withdrawal(console: Console, row: Withdrawal) -> None:
    title = f"kubectl delete pod {row.pod} while a pod on another node keeps asking: out of the rotation within 1000 ms"
    table = _table(console, title, "", "since kubectl was started", "")
    table.add_row("", "kubectl returned", _milliseconds(row.returned))
    late = f"{_milliseconds(row.last_answer)}, {_milliseconds(row.late)} after kubectl returned"
    table.add_row(_mark(row.late <= LONGEST_WITHDRAWAL), f"last answer of {row.pod}", late)
    table.add_row(_mark(not row.failed), "requests meanwhile", f"{row.requests}, {row.failed} failed")
    table.add_row(_mark(row.left == row.endpoints), "answered afterwards by", ", ".join(sorted(row.left)))
    console.print(table)
    console.print()


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _mark(is_okay: bool) -> str:  # noqa: FBT001
    return _OKAY if is_okay else _BROKEN


def _print_next(console: Console, stage: Scene) -> None:
    """Say what to try, and how to stop."""
    kubectl = "kubectl" if shutil.which("kubectl") else _as_typed(Path(sys.executable).with_name("kubectl"))
    fetch = "curl -s" if shutil.which("curl") else "wget -qO-"
    folder = stage.lab.directory

    def podwire(verb: str) -> str:
        return spelling.command(verb, folder).replace("podwire", _as_typed(Path(sys.argv[0])), 1)

    console.print("\n[bold]What to try next[/bold]")
    for why, command in (
        ("use the lab from this shell", f"export KUBECONFIG={stage.lab.kubeconfig}"),
        ("the pods and their nodes", f"{kubectl} get pods -o wide --namespace {NAMESPACE}"),
        ("what the proxies work from", f"{kubectl} get services,endpointslices --namespace {NAMESPACE}"),
        ("ask the Service from inside a pod", f"{podwire('exec')} client-1 -- {fetch} http://{stage.service}/"),
        ("the Services in the kernel", f"{podwire('exec')} node1 -- nft list table ip podwire-proxy"),
        ("Services go on without their proxy", f"{podwire('stop')} node1/proxy"),
        ("every process of the lab", podwire("status")),
        ("stop: nothing is left", podwire("down")),
    ):
        console.print(f"  [dim]# {why}[/dim]\n  {escape(command)}", highlight=False, soft_wrap=True)


def _as_typed(program: Path) -> str:
    """Spell a program the way it can be typed here."""
    if shutil.which(program.name) == str(program.absolute()):
        return program.name
    try:
        return str(program.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(program)
