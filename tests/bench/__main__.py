"""`make bench`: measure podwire against its peers in one run, print a table, leave build/bench.json."""

import json
import logging
import os
import sys
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from tests.bench import cni_burst, cni_growth, cni_latency, ipam_scale, service_load
from tests.bench.timing import Comparison

REPORT = Path("build/bench.json")


def main() -> None:
    if os.geteuid():
        sys.exit("make bench: run as root: it makes network namespaces")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console = Console(width=max(110, Console().width))
    results: list[Comparison] = []
    for section in (service_load, cni_latency, cni_burst, ipam_scale, cni_growth):
        console.print(f"[bold]{section.TITLE}[/bold]")
        for result in section.measure():
            console.print(f"  {result.name}: {result.ratio:.3g} × the peer")
            results.append(result)
    console.print(_table(results))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps([result._asdict() for result in results], indent=2) + "\n")
    console.print(f"written to {REPORT}")


def _table(results: list[Comparison]) -> Table:
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
