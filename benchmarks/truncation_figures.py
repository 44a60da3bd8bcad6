"""The figures of the truncation study: a small plot for each network and cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from truncation_summary import BEARABLE, HALVES

from polyadic.reporting.chart import Line, Panel, PanelChart, Points, Table, panels_of, place_points
from polyadic.reporting.svg import svg_file
from polyadic.storage import write_together

Networks = Mapping[str, Mapping[str, Any]]

NAMES = {"resnet20": "ResNet-20", "resnet56": "ResNet-56", "four-layer-cnn": "four convolutions"}
CUTS = {"o|ihw": "o|ihw", "i|ohw": "i|ohw", "oh|iw": "oh|iw", "oi|hw": "oi|hw", "o|ihw+i|ohw": "o+i"}
"""Those that are drawn."""

_LOST = "norm lost, ||K - K^|| / ||K||"


def write_figures(folder: Path, networks: Networks) -> None:
    """Write three drawings to ``folder``, those that there is something to show in."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = (layers_chart(networks), joint_chart(networks), depth_chart(networks))
    write_together({folder / f"{chart.name}.svg": svg_file(chart) for chart in charts if chart.panels})


def layers_chart(networks: Networks) -> PanelChart:
    """Median drop of the layers of a half against their median norm loss."""

    def series(found: Mapping[str, Any], chain: str) -> Iterable[Points]:
        most = max(row["layers"] for row in found["single"])
        # at some shares a kernel has no row of its own: the median of those that are left would be one of other layers
        rows = [row for row in found["single"] if row["chain"] == chain and 4 * row["layers"] >= 3 * most]
        for colour, (column, label) in enumerate((("drop", "truncated"), ("perturbed_drop", "random error"))):
            for at, half in enumerate(HALVES):
                places = (
                    (row["norm_loss"][1], row[column][1], f"{half}, {row['share']:g} of the rank")
                    for row in rows
                    if row["half"] == half
                )
                yield place_points(f"{label}, {half} layers", 2 * colour + at, places)

    return _chart(
        "truncation-layers",
        "Points of accuracy lost when one layer is truncated",
        "The median over the layers of each half of the network, on held-out training images.",
        (_LOST, "points lost"),
        _panels(networks, series),
    )


def joint_chart(networks: Networks) -> PanelChart:
    """Accuracy when the layers of a half are truncated together."""
    shown = (
        ("shallow", "accuracy", "first half truncated"),
        ("deep", "accuracy", "second half truncated"),
        ("shallow", "perturbed_accuracy", "first half, random error"),
        ("deep", "perturbed_accuracy", "second half, random error"),
    )

    def series(found: Mapping[str, Any], chain: str) -> Iterable[Points]:
        for at, (group, column, label) in enumerate(shown):
            rows = [row for row in found["joint"] if (row["group"], row["chain"]) == (group, chain)]
            places = ((row["norm_loss"], 100 * row[column], f"{label}, {row['share']:g} of the rank") for row in rows)
            yield place_points(label, at, places)

    return _chart(
        "truncation-joint",
        "Accuracy when layers are truncated together",
        "The first half of the layers that were studied, and the second; on held-out training images.",
        (_LOST, "accuracy, %"),
        _panels(networks, series),
        (Line("a guess", 10.0),),
    )


def depth_chart(networks: Networks) -> PanelChart:
    """The norm that each layer can lose for ``BEARABLE`` points."""

    def series(found: Mapping[str, Any], chain: str) -> Iterable[Points]:
        last = max(len(found["layers"]) - 1, 1)
        for at, (column, label) in enumerate((("drop", "truncated"), ("perturbed_drop", "random error"))):
            known = found["tolerance"][chain][column]["by_layer"]
            places = ((int(n) / last, value, f"{found['layers'][int(n)]}: {value:.3f}") for n, value in known.items())
            yield place_points(label, at, places)

    return _chart(
        "truncation-depth",
        f"Norm that a layer can lose before {BEARABLE:g} points are lost",
        "By depth; the most that was tried where so many points are never lost.",
        ("depth, from the first (0) to the last layer (1)", "norm lost"),
        _panels(networks, series),
    )


def _panels(networks: Networks, series: Any) -> tuple[Panel, ...]:
    """Network by network, those cuts that it was truncated along."""
    return panels_of(
        (f"{NAMES[name]}, {cuts}", series(networks[name], chain))
        for name in NAMES
        if name in networks
        for chain, cuts in CUTS.items()
        if chain in networks[name]["tolerance"]
    )


def _chart(
    name: str,
    title: str,
    caption: str,
    labels: tuple[str, str],
    panels: Sequence[Panel],
    lines: tuple[Line, ...] = (),
) -> PanelChart:
    """A chart whose table, which drawings do not show, is in the results."""
    return PanelChart(name, title, caption, Table((), ()), *labels, tuple(panels), lines)
