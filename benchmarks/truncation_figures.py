"""The figures of the truncation study: a small plot for each network and cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from truncation_summary import BEARABLE, HALVES

from polyadic.reporting.chart import Line, Mark, Panel, PanelChart, Table, panels_of
from polyadic.reporting.svg import svg_file
from polyadic.storage import write_together

Networks = Mapping[str, Mapping[str, Any]]

NAMES = {"resnet20": "ResNet-20", "resnet56": "ResNet-56", "four-layer-cnn": "four convolutions"}
CUTS = {"o|ihw": "o|ihw", "i|ohw": "i|ohw", "oh|iw": "oh|iw", "oi|hw": "oi|hw", "o|ihw+i|ohw": "o+i"}
"""Those that are drawn."""

ERRORS = {"truncated": "drop", "random error": "perturbed_drop"}

_LOST = "norm lost, ||K - K^|| / ||K||"


def write_figures(folder: Path, networks: Networks) -> None:
    """Write three drawings to ``folder``, those that there is something to show in."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = (layers_chart(networks), joint_chart(networks), depth_chart(networks))
    write_together({folder / f"{chart.name}.svg": svg_file(chart) for chart in charts if chart.panels})


def layers_chart(networks: Networks) -> PanelChart:
    """Median drop of the layers of a half against their median norm loss."""

    def marks(found: Mapping[str, Any], chain: str, panel: str) -> Iterator[Mark]:
        most = max(row["layers"] for row in found["single"])
        # at some shares a kernel has no row of its own: the median of those that are left would be one of other layers
        for row in found["single"]:
            if row["chain"] == chain and 4 * row["layers"] >= 3 * most:
                said = f"{row['half']}, {row['share']:g} of the rank"
                for label, column in ERRORS.items():
                    yield Mark(f"{label}, {row['half']} layers", row["norm_loss"][1], row[column][1], said, panel)

    return _chart(
        "truncation-layers",
        "Points of accuracy lost when one layer is truncated",
        "The median over the layers of each half of the network, on held-out training images.",
        (_LOST, "points lost"),
        _panels(networks, marks, [f"{label}, {half} layers" for label in ERRORS for half in HALVES]),
    )


def joint_chart(networks: Networks) -> PanelChart:
    """Accuracy when the layers of a half are truncated together."""
    shown = {
        "first half truncated": ("shallow", "accuracy"),
        "second half truncated": ("deep", "accuracy"),
        "first half, random error": ("shallow", "perturbed_accuracy"),
        "second half, random error": ("deep", "perturbed_accuracy"),
    }

    def marks(found: Mapping[str, Any], chain: str, panel: str) -> Iterator[Mark]:
        for label, (group, column) in shown.items():
            for row in found["joint"]:
                if (row["group"], row["chain"]) == (group, chain):
                    said = f"{label}, {row['share']:g} of the rank"
                    yield Mark(label, row["norm_loss"], 100 * row[column], said, panel)

    return _chart(
        "truncation-joint",
        "Accuracy when layers are truncated together",
        "The first half of the layers that were studied, and the second; on held-out training images.",
        (_LOST, "accuracy, %"),
        _panels(networks, marks, list(shown)),
        (Line("a guess", 10.0),),
    )


def depth_chart(networks: Networks) -> PanelChart:
    """The norm that each layer can lose for ``BEARABLE`` points."""

    def marks(found: Mapping[str, Any], chain: str, panel: str) -> Iterator[Mark]:
        last = max(len(found["layers"]) - 1, 1)
        for label, column in ERRORS.items():
            for n, value in found["tolerance"][chain][column]["by_layer"].items():
                yield Mark(label, int(n) / last, value, f"{found['layers'][int(n)]}: {value:.3f}", panel)

    return _chart(
        "truncation-depth",
        f"Norm that a layer can lose before {BEARABLE:g} points are lost",
        "By depth; the most that was tried where so many points are never lost.",
        ("depth, from the first (0) to the last layer (1)", "norm lost"),
        _panels(networks, marks, list(ERRORS)),
    )


def _panels(
    networks: Networks, marks: Callable[[Mapping[str, Any], str, str], Iterator[Mark]], labels: Sequence[str]
) -> tuple[Panel, ...]:
    """Network by network, those cuts that it was truncated along."""
    drawn = [
        mark
        for name in NAMES
        if name in networks
        for chain, cuts in CUTS.items()
        if chain in networks[name]["tolerance"]
        for mark in marks(networks[name], chain, f"{NAMES[name]}, {cuts}")
    ]
    return panels_of(drawn, labels)


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
