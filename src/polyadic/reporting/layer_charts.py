"""Charts of the layers: the network as a strip, and cost, error and sensitivity of each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from polyadic.reporting.chart import (
    BarChart,
    Bars,
    Chart,
    Colour,
    StripChart,
    StripPart,
    finite,
    number_text,
    series_colour,
    table_of,
    with_content,
)
from polyadic.schema import LayerOutcome, Summary


def layer_charts(summary: Summary) -> list[Chart]:
    """All that there is something to show in."""
    return with_content(
        (strip(summary.layers, summary.dense.macs), costs(summary), errors(summary), sensitivities(summary))
    )


def strip(
    layers: Sequence[LayerOutcome], dense_macs: int, name: str = "strip", title: str = "The network, layer by layer"
) -> StripChart | None:
    """The layers in order: width is a layer's share of the dense MACs, filled height what is left of them.

    The filled area is thus the cost of the compressed network. None where no layer has MACs.
    """
    shown = [layer for layer in layers if layer.macs_before > 0]
    if not shown:
        return None
    formats = dict.fromkeys(str(layer.format) for layer in layers if layer.status == "factorised")
    colours = {fmt: series_colour(at) for at, fmt in enumerate(formats)}  # in the order in which the network has them
    others: dict[str, Colour] = {"dense": "dense", "unsupported": "refused"}
    parts = tuple(
        StripPart(
            layer.name,
            colours[str(layer.format)] if layer.status == "factorised" else others[layer.status],
            layer.macs_before,
            min(layer.macs_after / layer.macs_before, 1.0),
            f"{layer.name}: {what_happened(layer)}; {layer.macs_before:,} MACs, {layer.macs_after:,} after",
        )
        for layer in shown
    )
    legend: dict[str, Colour] = {**colours, "dense": "dense", "cannot be factorised": "refused"}
    used = {part.colour for part in parts}
    left_out = len(layers) - len(shown)
    columns: dict[str, Callable[[LayerOutcome], str]] = {
        "layer": lambda layer: layer.name,
        "what happened": what_happened,
        "share of MACs, %": lambda layer: f"{100 * layer.macs_before / max(dense_macs, 1):.1f}",
        "left, %": lambda layer: f"{100 * layer.macs_after / layer.macs_before:.1f}",
    }
    return StripChart(
        name,
        title,
        "Width: share of the dense network's MACs. Filled height: share of them that is left. The filled area is "
        "what is left of the cost." + (f" Layers without MACs are not drawn: {left_out}." if left_out else ""),
        table_of(shown, columns),
        "layers in order, % of dense MACs",
        "% left",
        parts,
        tuple((label, colour) for label, colour in legend.items() if colour in used),
    )


def costs(summary: Summary) -> BarChart | None:
    """MACs of every layer before and after."""
    return _bars(
        [layer for layer in summary.layers if layer.macs_before > 0],
        "cost",
        "Cost of each layer",
        "Multiply-accumulates for one sample.",
        "MACs",
        {
            "before": ("dense", "MACs before", lambda layer: layer.macs_before),
            "after": ("c0", "MACs after", lambda layer: layer.macs_after),
        },
        "{:,.0f}",
    )


def errors(summary: Summary) -> BarChart | None:
    """Relative error of every decomposition; None where nothing was decomposed."""
    shown = [layer for layer in summary.layers if finite(layer.relative_error) is not None]
    kernel, inputs = "of the kernel", "in the norm of the layer's inputs"
    series: dict[str, _Series] = {kernel: ("c1", kernel, lambda layer: layer.relative_error)}
    if any(finite(layer.weighted_error) is not None for layer in shown):
        series[inputs] = ("c2", inputs, lambda layer: layer.weighted_error)
    return _bars(
        shown,
        "error",
        "Error of each decomposition",
        "Relative error ||K - K^|| / ||K||, before fine-tuning. Where the inputs are known, the second error is the "
        "one that the decomposition made small: it counts what the layer answers, not how its kernel looks.",
        "relative error",
        series,
        "{:.3f}",
    )


def sensitivities(summary: Summary) -> BarChart | None:
    """Sensitivity of every CP; None where there is none."""
    return _bars(
        [layer for layer in summary.layers if (finite(layer.sensitivity) or 0.0) > 0],
        "sensitivity",
        "Sensitivity of each CP decomposition",
        "How much the kernel moves when its factors are disturbed, for a kernel of unit norm. A large one makes "
        "fine-tuning diverge; formats other than CP have none.",
        "sensitivity (logarithmic)",
        {"sensitivity": ("c3", "sensitivity", lambda layer: layer.sensitivity)},
        "{:.1f}",
        log=True,
    )


_Series = tuple[Colour, str, Callable[[LayerOutcome], float | None]]
"""Colour, heading in the table, value."""


def _bars(
    layers: Sequence[LayerOutcome],
    name: str,
    title: str,
    caption: str,
    label: str,
    series: dict[str, _Series],
    form: str,
    *,
    log: bool = False,
) -> BarChart | None:
    """A group of bars for each layer; None where there is no layer."""
    if not layers:
        return None
    values = {of: tuple(finite(value(layer)) for layer in layers) for of, (_, _, value) in series.items()}

    def cell(value: Callable[[LayerOutcome], float | None]) -> Callable[[LayerOutcome], str]:
        return lambda layer: number_text(value(layer), form)

    columns: dict[str, Callable[[LayerOutcome], str]] = {"layer": lambda layer: layer.name}
    columns |= {heading: cell(value) for _, heading, value in series.values()}
    return BarChart(
        name,
        title,
        caption,
        table_of(layers, columns),
        label,
        tuple(layer.name for layer in layers),
        tuple(Bars(of, colour, values[of]) for of, (colour, _, _) in series.items()),
        log=log,
    )


def what_happened(layer: LayerOutcome) -> str:
    """Format and rank, or that nothing happened and why."""
    if layer.status == "factorised":
        return f"{layer.format} {rank_text(layer.rank)}"
    said = {"dense": "left dense", "unsupported": "cannot be factorised"}[layer.status]
    return f"{said}: {layer.reason}" if layer.reason else said


def rank_text(rank: int | Sequence[int] | None) -> str:
    """The rank, or the ranks separated by commas."""
    return str(rank) if isinstance(rank, int) else ", ".join(map(str, rank or []))
