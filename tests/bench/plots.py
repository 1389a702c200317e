"""The proxy's figures as pictures, one for each thing that is measured over several sizes; needs matplotlib (the `bench` extra)."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from tests.bench.figures import Figure
from tests.bench.proxy_packets import AFFINITY

_COUNT = re.compile(r"Service of ([\d,]+) endpoints")


def draw(figures: Sequence[Figure], folder: Path) -> Iterator[Path]:
    """Write the pictures; yields their files."""
    folder.mkdir(parents=True, exist_ok=True)
    sized = [figure for figure in figures if figure.part != AFFINITY]
    for what in dict.fromkeys(figure.what for figure in sized):
        points = sorted((figure for figure in sized if figure.what == what), key=lambda figure: figure.services)
        if len(points) > 1:
            yield _picture(what, points, [figure.services for figure in points], "Services", folder)
    clients = [figure for figure in figures if figure.part == AFFINITY]
    if clients:
        counts = [int(_COUNT.findall(figure.what)[0].replace(",", "")) for figure in clients]
        yield _picture("a known client's connection", clients, counts, "endpoints", folder)


def _picture(title: str, points: Sequence[Figure], positions: Sequence[int], along: str, folder: Path) -> Path:
    drawing, axes = plt.subplots(figsize=(6, 4))
    axes.plot(positions, [figure.value for figure in points], marker="o", label="podwire")
    peers = [(x, figure.peer) for x, figure in zip(positions, points, strict=True) if figure.peer is not None]
    if peers:
        axes.plot(*zip(*peers, strict=True), marker="s", label="kube-proxy's layout")
    axes.set(title=title, xlabel=along, ylabel=points[0].unit, xscale="log")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    path = folder / f"{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}.png"
    drawing.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(drawing)
    return path
