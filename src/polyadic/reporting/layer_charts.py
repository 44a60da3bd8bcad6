"""Charts of the layers: the network as a strip, and cost, error and sensitivity of each layer."""

from __future__ import annotations

from collections.abc import Sequence

from polyadic.reporting.chart import SERIES, BarChart, Bars, Block, Chart, Colour, StripChart, Table
from polyadic.reporting.records import finite
from polyadic.schema import LayerOutcome, Summary


def layer_charts(summary: Summary) -> list[Chart]:
    """All that there is something to show in."""
    made = (strip(summary.layers, summary.dense.macs), costs(summary), errors(summary), sensitivities(summary))
    return [chart for chart in made if chart is not None]


def strip(
    layers: Sequence[LayerOutcome], dense_macs: int, name: str = "strip", title: str = "The network, layer by layer"
) -> StripChart | None:
    """The layers in order: width is a layer's share of the dense MACs, filled height what is left of them.

    The filled area is thus the cost of the compressed network. None where no layer has MACs.
    """
    shown = [layer for layer in layers if layer.macs_before > 0]
    if not shown:
        return None
    colours = _format_colours(layers)
    blocks = tuple(
        Block(
            layer.name,
            _colour(layer, colours),
            layer.macs_before,
            min(layer.macs_after / layer.macs_before, 1.0),
            f"{layer.name}: {what_happened(layer)}; {layer.macs_before:,} MACs, {layer.macs_after:,} after",
        )
        for layer in shown
    )
    legend = [*colours.items(), ("dense", "dense"), ("cannot be factorised", "refused")]
    used = {block.colour for block in blocks}
    left_out = len(layers) - len(shown)
    return StripChart(
        name,
        title,
        "Width: share of the dense network's MACs. Filled height: share of them that is left. The filled area is "
        "what is left of the cost." + (f" Layers without MACs are not drawn: {left_out}." if left_out else ""),
        Table(
            ("layer", "what happened", "share of MACs, %", "left, %"),
            tuple(
                (
                    layer.name,
                    what_happened(layer),
                    f"{100 * layer.macs_before / max(dense_macs, 1):.1f}",
                    f"{100 * layer.macs_after / layer.macs_before:.1f}",
                )
                for layer in shown
            ),
        ),
        "layers in order, % of dense MACs",
        "% left",
        blocks,
        tuple((label, colour) for label, colour in legend if colour in used),
    )


def costs(summary: Summary) -> BarChart | None:
    """MACs of every layer before and after."""
    shown = [layer for layer in summary.layers if layer.macs_before > 0]
    if not shown:
        return None
    return BarChart(
        "cost",
        "Cost of each layer",
        "Multiply-accumulates for one sample.",
        Table(
            ("layer", "MACs before", "MACs after"),
            tuple((layer.name, f"{layer.macs_before:,}", f"{layer.macs_after:,}") for layer in shown),
        ),
        "MACs",
        tuple(layer.name for layer in shown),
        (
            Bars("before", "dense", tuple(float(layer.macs_before) for layer in shown)),
            Bars("after", "c0", tuple(float(layer.macs_after) for layer in shown)),
        ),
    )


def errors(summary: Summary) -> BarChart | None:
    """Relative error of every decomposition; None where nothing was decomposed."""
    shown = [layer for layer in summary.layers if finite(layer.relative_error) is not None]
    if not shown:
        return None
    weighted = [finite(layer.weighted_error) for layer in shown]
    series = [Bars("of the kernel", "c1", tuple(finite(layer.relative_error) for layer in shown))]
    if any(value is not None for value in weighted):
        series.append(Bars("in the norm of the layer's inputs", "c2", tuple(weighted)))
    return BarChart(
        "error",
        "Error of each decomposition",
        "Relative error ||K - K^|| / ||K||, before fine-tuning. Where the inputs are known, the second error is the "
        "one that the decomposition made small: it counts what the layer answers, not how its kernel looks.",
        Table(
            ("layer", *(bars.label for bars in series)),
            tuple((layer.name, *(_three(bars.values[at]) for bars in series)) for at, layer in enumerate(shown)),
        ),
        "relative error",
        tuple(layer.name for layer in shown),
        tuple(series),
    )


def sensitivities(summary: Summary) -> BarChart | None:
    """Sensitivity of every CP; None where there is none."""
    shown = [layer for layer in summary.layers if (finite(layer.sensitivity) or 0.0) > 0]
    if not shown:
        return None
    return BarChart(
        "sensitivity",
        "Sensitivity of each CP decomposition",
        "How much the kernel moves when its factors are disturbed, for a kernel of unit norm. A large one makes "
        "fine-tuning diverge; formats other than CP have none.",
        Table(("layer", "sensitivity"), tuple((layer.name, f"{layer.sensitivity:.1f}") for layer in shown)),
        "sensitivity (logarithmic)",
        tuple(layer.name for layer in shown),
        (Bars("sensitivity", "c3", tuple(finite(layer.sensitivity) for layer in shown)),),
        log=True,
    )


def what_happened(layer: LayerOutcome) -> str:
    """Format and rank, or that nothing happened and why."""
    if layer.status == "factorised":
        return f"{layer.format} {rank_text(layer)}"
    said = {"dense": "left dense", "unsupported": "cannot be factorised"}[layer.status]
    return f"{said}: {layer.reason}" if layer.reason else said


def rank_text(layer: LayerOutcome) -> str:
    """The rank, or the ranks separated by commas."""
    return str(layer.rank) if isinstance(layer.rank, int) else ", ".join(map(str, layer.rank or []))


def _format_colours(layers: Sequence[LayerOutcome]) -> dict[str, Colour]:
    """A colour for each format, in the order in which the network has them."""
    used = dict.fromkeys(str(layer.format) for layer in layers if layer.status == "factorised")
    return {name: SERIES[at % len(SERIES)] for at, name in enumerate(used)}


def _colour(layer: LayerOutcome, formats: dict[str, Colour]) -> Colour:
    if layer.status == "factorised":
        return formats[str(layer.format)]
    return "dense" if layer.status == "dense" else "refused"


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
