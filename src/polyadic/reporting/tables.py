"""A summary as rows of text: what the terminal, the model card and later reports show."""

from __future__ import annotations

from polyadic.schema import LayerOutcome, LayerSite, Summary

Rows = list[tuple[str, ...]]

HEADLINE_COLUMNS = ("", "dense", "compressed", "change")
LAYER_COLUMNS = ("layer", "what happened", "rank", "error", "sensitivity", "MACs before", "after")
SITE_COLUMNS = ("layer", "kind", "weight", "params", "MACs", "can be factorised as", "if not, why")


def headline_rows(summary: Summary) -> Rows:
    """Score, MACs, parameters and bytes of both networks."""
    dense, compressed = summary.dense, summary.compressed
    interval = ""
    if summary.drop_interval is not None:
        interval = f" (95 %: {-summary.drop_interval[1]:+.2f} to {-summary.drop_interval[0]:+.2f})"
    times: Rows = []
    if dense.latency is not None and compressed.latency is not None:
        faster = f"{dense.latency / compressed.latency:.2f}x faster"
        times = [("milliseconds of a pass", f"{dense.latency:.3g}", f"{compressed.latency:.3g}", faster)]
    return [
        (
            f"{summary.score_name}, %",
            f"{100 * summary.dense_score:.2f}",
            f"{100 * summary.compressed_score:.2f}",
            f"{0.0 - summary.drop:+.2f} points{interval}",
        ),
        ("before fine-tuning, %", "", f"{100 * summary.score_before_finetuning:.2f}", ""),
        ("MACs", f"{dense.macs:,}", f"{compressed.macs:,}", fewer(dense.macs, compressed.macs)),
        ("parameters", f"{dense.params:,}", f"{compressed.params:,}", fewer(dense.params, compressed.params)),
        ("bytes in memory", f"{dense.bytes:,}", f"{compressed.bytes:,}", fewer(dense.bytes, compressed.bytes)),
        *times,
    ]


def layer_rows(summary: Summary) -> Rows:
    """One row per layer."""
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


def fewer(before: int, after: int) -> str:
    """Say "2.34x fewer", or what else is true."""
    if after <= 0 or before == after:
        return "unchanged"
    return f"{before / after:.2f}x fewer" if before > after else f"{after / before:.2f}x more"


def _layer_row(layer: LayerOutcome) -> tuple[str, ...]:
    if layer.status != "factorised":
        what = layer.status + (f": {layer.reason}" if layer.reason else "")
        return layer.name, what, "", "", "", f"{layer.macs_before:,}", f"{layer.macs_after:,}"
    rank = layer.rank if isinstance(layer.rank, int) else ", ".join(map(str, layer.rank or []))
    sensitivity = "" if layer.sensitivity is None else f"{layer.sensitivity:.0f}"
    error = "" if layer.relative_error is None else f"{layer.relative_error:.3f}"
    return (
        layer.name,
        str(layer.format),
        str(rank),
        error,
        sensitivity,
        f"{layer.macs_before:,}",
        f"{layer.macs_after:,}",
    )
