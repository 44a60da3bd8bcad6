"""The figures of docs/studies/degeneracy.md, drawn from the results of degeneracy_study.py and stability.py."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from polyadic.reporting import svg_file
from polyadic.reporting.chart import Chart, Line, Mark, PanelChart, PointChart, Table, panels_of, series_of
from polyadic.studies.degeneracy import METHODS

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "studies" / "figures"
STAGES = ("layer1", "layer2", "layer3")
SHEET = b'<rect width="100%" height="100%" fill="#ffffff"/>'  # for readers whose pages are dark
NO_RATE = 0.0003  # where a row stands that survived none
NO_TABLE = Table((), ())  # the page has its own


def draw(results: Path) -> list[Path]:
    """Write every figure for which ``results`` holds the numbers; returns their paths."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    paths = []
    for chart in charts(results):
        path = FOLDER / f"degeneracy-{chart.name}.svg"
        path.write_bytes(svg_file(chart).replace(b"</style>", b"</style>" + SHEET, 1))
        paths.append(path)
    return paths


def charts(results: Path) -> Iterator[Chart]:
    """Sensitivity against the rank, every kernel at one rank, intensities, learning rates."""
    networks = json.loads((results / "degeneracy_study.json").read_text())["networks"]
    rows = table(networks["resnet56"])
    yield sensitivities(networks["resnet56"]["medians (median, least, most)"])
    yield kernels(rows)
    yield intensities(networks)
    yield rates(json.loads((results / "stability_resnet20.json").read_text())["rows"])


def table(network: dict[str, Any]) -> list[dict[str, str]]:
    """The rows of a network, each cell as text."""
    columns = network["columns"].split(", ")
    return [dict(zip(columns, row.split(", "), strict=True)) for row in network["rows"]]


def sensitivities(medians: dict[str, dict[str, Any]]) -> PanelChart:
    """Medians by stage and share."""
    found = [(*key.split(), float(entry["sensitivity"].split()[0])) for key, entry in medians.items()]
    marks = [
        Mark(METHODS[method], float(share), value, f"{METHODS[method]}, share {share}: {value:g}", group)
        for stage in STAGES
        for group, method, share, value in found
        if group == stage
    ]
    return PanelChart(
        "sensitivity",
        "Sensitivity against the rank, medians over the kernels of ResNet-56",
        "",
        NO_TABLE,
        "rank, as a share of the rank at which factors hold as many numbers as the kernel (logarithmic)",
        "sensitivity of K / ||K|| (logarithmic)",
        panels_of(marks, list(METHODS.values()), positive=True),
        y_log=True,
        own_x=True,
    )


def kernels(rows: Sequence[dict[str, str]], share: str = "0.25") -> PointChart:
    """Sum of squared intensities of every kernel at one share of the rank."""
    column = "sum_squared_intensity"
    order = {name: at for at, name in enumerate(dict.fromkeys(row["layer"] for row in rows), 1)}
    marks = [
        Mark(METHODS[row["method"]], order[row["layer"]], float(row[column]), f"{row['layer']}: {row[column]}")
        for row in rows
        if row["share"] == share
    ]
    return PointChart(
        "kernels",
        "Sum of squared intensities of every kernel of ResNet-56, a quarter of the even rank",
        "",
        NO_TABLE,
        "kernel, from the input to the output",
        "sum of squared intensities of K / ||K|| (logarithmic)",
        series_of(marks, list(METHODS.values()), ["points"] * len(METHODS), positive=True),
        lines=(Line("above: long terms", 10.0),),
        y_log=True,
    )


def intensities(networks: dict[str, Any]) -> PanelChart:
    """The terms of three kernels, the longest first."""
    shown: dict[str, dict[str, list[float]]] = {}
    for network in networks.values():
        for key, values in network["intensities"].items():
            layer, method, rank = key.split()
            shown.setdefault(f"{layer}, rank {rank}", {})[method] = [float(value) for value in values.split()]
    marks = [
        Mark(METHODS[method], n, value, f"{value:g}", title)
        for title, found in shown.items()
        for method, values in found.items()
        for n, value in thinned(values)
    ]
    return PanelChart(
        "intensities",
        "Intensities of the rank-one terms",
        "",
        NO_TABLE,
        "term, the longest first (logarithmic)",
        "intensity of the terms of K / ||K|| (logarithmic)",
        panels_of(marks, list(METHODS.values()), positive=True),
        y_log=True,
        own_x=True,
    )


def thinned(values: Sequence[float], most: int = 24) -> list[tuple[int, float]]:
    """At most so many terms with their numbers, evenly on a logarithmic axis, the first and the last among them."""
    numbers = sorted({round(len(values) ** (at / (most - 1))) for at in range(most)})
    return [(number, values[number - 1]) for number in numbers]


def rates(rows: Sequence[dict[str, Any]]) -> PointChart:
    """The largest learning rate that one factorised layer stands, against its sensitivity."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    marks = [
        Mark(
            row["method"],
            row["sensitivity"],
            row["surviving_rate"] or NO_RATE,
            f"{row['layer']}, rank {row['rank']}, {row['method']}: {row['surviving_rate'] or 'none'}",
        )
        for row in rows
    ]
    return PointChart(
        "rates",
        "The largest learning rate that a factorised layer of ResNet-20 stands",
        "",
        NO_TABLE,
        "sensitivity of K / ||K|| (logarithmic)",
        "largest rate that survives (logarithmic); lowest place: none of those tried",
        series_of(marks, methods, ["points"] * len(methods), positive=True),
        x_log=True,
        y_log=True,
    )
