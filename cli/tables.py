"""The tables of `podwire lab`."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ipam import cidrs
from lab.survey import ComponentState, LabState, PodState


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_status(console: Console, status: LabState) -> None:
    lab = status.lab
    console.print(f"[bold]lab {lab.name}[/bold]  {lab.directory}", highlight=False, soft_wrap=True)
    console.print(
        f"API server https://127.0.0.1:{lab.api_port}  pods {cidrs.spell(lab.cluster_cidrs)}  "
        f"Services {cidrs.spell(lab.service_cidrs)}",
        highlight=False,
    )
    if status.api_problem:
        console.print(
            f"[red]the API server does not answer:[/red] {escape(status.api_problem)}", highlight=False, soft_wrap=True
        )
    console.print()
    nodes = _table("NODE", "ADDRESS", "NAMESPACE", "POD CIDR", "READY", "PODS")
    for node in status.nodes:
        ready = "[green]yes[/green]" if node.ready else "[red]no[/red]"
        nodes.add_row(node.name, node.address, node.namespace, node.pod_cidr or "-", ready, str(node.pods))
    console.print(nodes)
    console.print()
    components = _table("COMPONENT", "PID", "RUNNING FOR", "RESTARTS", "")
    for component in (status.supervisor, status.api, *(each for node in status.nodes for each in node.components)):
        components.add_row(*_component_row(component))
    console.print(components)


def _component_row(component: ComponentState) -> tuple[str, ...]:
    if component.pid is None:
        note = f"[red]not running[/red] {escape(component.note)}".strip()
        return (component.name, "-", "-", str(component.restarts), note)
    return (component.name, str(component.pid), duration(component.seconds), str(component.restarts), "")


def duration(seconds: float) -> str:
    """Spell a duration as kubectl does: 42s, 3m12s, 2h5m, 3d4h."""
    whole = int(seconds)
    for size, unit, smaller, smaller_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller}{smaller_unit}"
    return f"{whole}s"


def print_pods(console: Console, pods: tuple[PodState, ...]) -> None:
    if not pods:
        console.print("no pods; make some: podwire lab demo, or kubectl apply -f …", highlight=False)
        return
    table = _table("NAMESPACE", "POD", "NODE", "ADDRESS", "STATE", "READY", "NETWORK NAMESPACE")
    for pod in pods:
        ready = "[green]yes[/green]" if pod.ready else "[red]no[/red]"
        table.add_row(pod.namespace, pod.name, pod.node, pod.address or "-", pod.state, ready, pod.netns or "-")
    console.print(table)


def print_labs(console: Console, labs: Mapping[str, LabState | str]) -> None:
    """Print one row a lab; a lab that cannot be read shows why."""
    table = _table("LAB", "NODES", "PODS", "API SERVER", "STATE")
    for name, status in labs.items():
        if isinstance(status, str):
            table.add_row(name, "-", "-", "-", f"[red]{escape(status)}[/red]")
            continue
        state = "[green]running[/green]" if status.is_well else "[red]needs podwire lab up[/red]"
        pods = sum(node.pods for node in status.nodes)
        table.add_row(name, str(status.lab.node_count), str(pods), f"https://127.0.0.1:{status.lab.api_port}", state)
    console.print(table)
