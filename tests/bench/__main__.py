"""`make bench`: measure podwire against its peers in one run, print tables, leave build/bench.json and pictures.

make bench                                        everything, in a few minutes
make bench ARGS="proxy --services 10000"          one section, one size of cluster
make bench ARGS="proxy --part start --services 45000 --peer-max 0"
"""

import json
import logging
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import structlog
from rich.console import Console
from rich.table import Table

from tests.bench import cni_burst, cni_growth, cni_latency, figures, ipam_scale, proxy
from tests.bench.cluster import Shape
from tests.bench.figures import Figure
from tests.bench.timing import Comparison

FOLDER = Path("build/bench")
REPORT = Path("build/bench.json")
COMPARISONS = {"cni": (cni_latency, cni_burst, cni_growth), "ipam": (ipam_scale,)}
SECTIONS = ("proxy", *COMPARISONS)


@click.command()
@click.argument("sections", nargs=-1, type=click.Choice(SECTIONS))
@click.option("--services", multiple=True, type=click.IntRange(2, 60_000), default=(1_000, 10_000), show_default=True)
@click.option("--endpoints", type=click.IntRange(1, 100), default=5, show_default=True, help="Of each Service.")
@click.option("--affinity", type=click.FloatRange(0, 1), default=0.0, help="Share of Services with session affinity.")
@click.option("--node-ports", type=click.FloatRange(0, 1), default=0.0, help="Share of Services with a node port.")
@click.option("--dual-stack", is_flag=True, help="Every Service has both families.")
@click.option("--part", "parts", multiple=True, type=click.Choice(proxy.PARTS), default=proxy.PARTS)
@click.option("--peer-max", default=10_000, show_default=True, help="The largest cluster the peer loads; 0 for none.")
@click.option("--seconds", default=10.0, show_default=True, help="How long each kind of churn lasts.")
def main(*, sections: Sequence[str], **options: Any) -> None:
    """Measure SECTIONS, or all of them."""
    if os.geteuid():
        raise click.ClickException("run as root: it makes network namespaces")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console = Console(width=max(120, Console().width))
    chosen = sections or SECTIONS
    measured = list(_measured(proxy.measure(_plan(**options)), console)) if "proxy" in chosen else []
    if measured:
        console.print(figures.table(measured))
    compared = [result for section in chosen if section in COMPARISONS for result in _compared(section, console)]
    if compared:
        console.print(_table(compared))
    _write(measured, compared, console)


def _plan(*, services: Sequence[int], parts: Sequence[str], peer_max: int, seconds: float, **shape: Any) -> proxy.Plan:
    return proxy.Plan([Shape(count, **shape) for count in services], parts, peer_max, seconds)


def _measured(found: Iterator[Figure], console: Console) -> Iterator[Figure]:
    for figure in found:
        console.print(f"  {figure}")
        yield figure


def _compared(section: str, console: Console) -> Iterator[Comparison]:
    for measuring in COMPARISONS[section]:
        console.print(f"[bold]{measuring.TITLE}[/bold]")
        for result in measuring.measure():
            console.print(f"  {result.name}: {result.ratio:.3g} × the peer")
            yield result


def _write(measured: Sequence[Figure], compared: Sequence[Comparison], console: Console) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": {"kernel": platform.release(), "processors": os.cpu_count(), "load": os.getloadavg()},
        "figures": [{**figure._asdict(), "ratio": figure.ratio} for figure in measured],
        "comparisons": [result._asdict() for result in compared],
    }
    REPORT.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    console.print(f"written to {REPORT}")
    if measured:
        _draw(measured, console)


def _draw(measured: Sequence[Figure], console: Console) -> None:
    try:
        from tests.bench import plots  # matplotlib takes a second to import
    except ImportError as error:
        console.print(f"no pictures: {error}; `make bench` installs what draws them")
        return
    for path in plots.draw(measured, FOLDER):
        console.print(f"drawn {path}")


def _table(results: Sequence[Comparison]) -> Table:
    table = Table("what", "podwire", "(min-max)", "peer", "(min-max)", "ratio", "rounds", "unit")
    for r in results:
        table.add_row(
            r.name,
            _shown(r.ours, r),
            f"{_shown(r.ours_range[0], r)}-{_shown(r.ours_range[1], r)}",
            _shown(r.peer, r),
            f"{_shown(r.peer_range[0], r)}-{_shown(r.peer_range[1], r)}",
            f"{r.ratio:.3g}",
            str(r.rounds),
            "ms" if r.unit == "s" else r.unit,
        )
    return table


def _shown(value: float, of: Comparison) -> str:
    return f"{value * 1000 if of.unit == 's' else value:.1f}"


if __name__ == "__main__":
    main()
