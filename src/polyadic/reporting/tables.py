"""Layers as rows of text: what the terminal, the model card and pages show."""

from __future__ import annotations

from polyadic.reporting.chart import number_text
from polyadic.reporting.headline import Rows
from polyadic.reporting.layer_charts import rank_text
from polyadic.schema import LayerOutcome, LayerSite, Summary

LAYER_COLUMNS = ("layer", "what happened", "rank", "error", "sensitivity", "MACs before", "after")
SITE_COLUMNS = ("layer", "kind", "weight", "params", "MACs", "can be factorised as", "if not, why")


def layer_rows(summary: Summary) -> Rows:
    """One row per layer, under :data:`LAYER_COLUMNS`."""
    return [_layer_row(layer) for layer in summary.layers]


def site_rows(sites: tuple[LayerSite, ...], formats: dict[str, list[str]], reasons: dict[str, str | None]) -> Rows:
    """One row per layer that ``inspect`` found, with the formats that serve it or the reason why none does."""
    return [
        (
            site.name,
            site.kind,
            " x ".join(str(n) for n in site.spec.weight_shape) if site.spec else "",
            f"{site.params:,}",
            f"{site.macs:,}",
            ", ".join(formats.get(site.name, [])),
            reasons.get(site.name) or "",
        )
        for site in sites
    ]


def _layer_row(layer: LayerOutcome) -> tuple[str, ...]:
    macs = f"{layer.macs_before:,}", f"{layer.macs_after:,}"
    if layer.status != "factorised":
        return layer.name, layer.status + (f": {layer.reason}" if layer.reason else ""), "", "", "", *macs
    error, sensitivity = number_text(layer.relative_error, "{:.3f}"), number_text(layer.sensitivity, "{:.0f}")
    return layer.name, str(layer.format), rank_text(layer.rank), error, sensitivity, *macs
